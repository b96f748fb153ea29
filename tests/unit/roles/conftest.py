# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parts of roles are played for real, by ansible-playbook, on hosts that are folders of this machine.

Modules that need no libvirt are the real ones; a test may put others in the place of those that do.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from harness.ansible import CHECKOUT, Outcome, Running, environment, playbook_words, program

PATIENCE_S = 900.0


def part(role: str, file: str, **variables) -> dict:
    """A task that does one file of a role's tasks."""
    name = {"name": f"kvmops.cluster.{role}", "tasks_from": file}
    return {"name": f"Do {file} of {role}", "ansible.builtin.import_role": name, "vars": variables}


class Hosts:
    """Hosts a, b and c, and one that does not answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._inventory = folder / "inventory.yml"
        here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        hosts = {name: {**here, "kvmops_cluster_state_dir": str(folder / name)} for name in ("a", "b", "c")}
        gone = {"ansible_connection": "ssh", "ansible_ssh_executable": str(self._refusing())}
        self._inventory.write_text(yaml.safe_dump({"all": {"hosts": {**hosts, "gone": gone}}}), encoding="utf-8")
        self._collections = CHECKOUT / "build/collections"

    def _refusing(self) -> Path:
        """Return an ssh that reaches nobody: these tests are about who is missed, and need no ssh on the machine."""
        script = self.folder / "ssh"
        script.write_text("#!/bin/sh\necho 'ssh: connect to host gone: Connection refused' >&2\nexit 255\n", "utf-8")
        script.chmod(0o755)
        return script

    def pretend(self, module: str, text: str) -> None:
        """Put another module in the place of one of the collection's."""
        self._collections = self.folder / "collections"
        mine = self._collections / "ansible_collections/kvmops/cluster"
        if not mine.exists():
            _linked(CHECKOUT, mine, leave=("plugins", "build", ".git"))
            _linked(CHECKOUT / "plugins", mine / "plugins", leave=("modules",))
            _linked(CHECKOUT / "plugins/modules", mine / "plugins/modules", leave=())
        (mine / f"plugins/modules/{module}.py").unlink()
        (mine / f"plugins/modules/{module}.py").write_text(text, encoding="utf-8")

    def play(self, *tasks: dict, hosts: str = "a,b,c", words: tuple[str, ...] = (), **variables) -> Outcome:
        """Do these tasks on the hosts, with further words on the command line."""
        play = {"name": "Work", "hosts": hosts, "gather_facts": False, "vars": variables, "tasks": list(tasks)}
        # Not where Ansible is started, as a collection's playbooks are not.
        playbook = self.folder / "playbooks/play.yml"
        playbook.parent.mkdir(exist_ok=True)
        playbook.write_text(yaml.safe_dump([play]), encoding="utf-8")
        command = [program("ansible-playbook"), "-i", str(self._inventory), str(playbook), *words]
        mine = environment(ANSIBLE_NOCOLOR="1", ANSIBLE_COLLECTIONS_PATH=str(self._collections))
        return Running(command, environment=mine, directory=self.folder).finish(PATIENCE_S)

    def start(self, playbook: str, **variables) -> Running:
        """Start a playbook of the collection."""
        words = ["-e", json.dumps(variables)]
        mine = environment(ANSIBLE_NOCOLOR="1", ANSIBLE_COLLECTIONS_PATH=str(self._collections))
        return Running(playbook_words(playbook, self._inventory, words), environment=mine, directory=self.folder)

    def kept(self, file: str) -> dict:
        """What each host keeps in a file, as far as it has that."""
        found = sorted(self.folder.glob(f"[abc]/{file}"))
        return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in found}


def _linked(source: Path, target: Path, leave: tuple[str, ...]) -> None:
    target.mkdir(parents=True)
    for path in source.iterdir():
        if path.name not in leave:
            (target / path.name).symlink_to(path)


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Leave to `make soak` what plays a playbook: each start of Ansible takes seconds."""
    if "hosts" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.soak)

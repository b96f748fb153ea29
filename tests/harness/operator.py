# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator at a terminal: types commands, presses Ctrl-C, reads reports."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lab import Lab

from .ansible import Outcome, Running, environment, playbook_words, program


class Operator:
    """Works on a lab with the collection, from a folder of their own."""

    def __init__(
        self,
        lab: Lab,
        folder: Path,
        user: str = "alice",
        without: Collection[str] = (),
        variables: Mapping[str, Any] | None = None,
        **settings: str,
    ) -> None:
        """Give the operator a folder, and an inventory of the lab's hosts.

        Args:
            without: hosts that the inventory leaves out.
            variables: what the inventory says about all hosts, beside what the lab says.
            settings: environment variables.
        """
        self.folder = folder
        self.inventory = folder / "inventory.yml"
        lab.write_inventory(self.inventory)
        self._change_inventory(without, variables or {})
        self._environment = environment(USER=user, ANSIBLE_NOCOLOR="1", COLUMNS="200", **settings)
        self._running: list[Running] = []

    # ---- commands ----------------------------------------------------------------------------------------------------

    def start(self, playbook: str, *words: str, **variables: Any) -> Running:
        """Start one of the collection's playbooks."""
        extra = ["-e", json.dumps(variables)] if variables else []
        return self._start(playbook_words(playbook, self.inventory, [*words, *extra]))

    def run(self, playbook: str, *words: str, **variables: Any) -> Outcome:
        """Run one of the collection's playbooks to its end."""
        return self.start(playbook, *words, **variables).finish()

    def start_file(self, playbook: Path, **variables: Any) -> Running:
        """Start a playbook of the operator's own."""
        extra = ["-e", json.dumps(variables)] if variables else []
        return self._start(["ansible-playbook", "-i", str(self.inventory), str(playbook), *extra])

    def run_file(self, playbook: Path) -> Outcome:
        """Run a playbook of the operator's own to its end."""
        return self.start_file(playbook).finish()

    def start_module(self, host: str, module: str, *words: str, **arguments: Any) -> Running:
        """Start one module on one host."""
        name = module if "." in module else f"kvmops.cluster.{module}"
        return self._start(
            ["ansible", host, "-i", str(self.inventory), "-m", name, "-a", json.dumps(arguments), *words]
        )

    def run_module(self, host: str, module: str, *words: str, **arguments: Any) -> Outcome:
        """Run one module on one host."""
        return self.start_module(host, module, *words, **arguments).finish()

    def _start(self, words: Sequence[str]) -> Running:
        running = Running([program(words[0]), *words[1:]], environment=self._environment, directory=self.folder)
        self._running.append(running)
        return running

    def leave(self) -> None:
        """Leave nothing running."""
        for running in self._running:
            running.clear_away()

    # ---- files -------------------------------------------------------------------------------------------------------

    def write(self, name: str, content: str | Mapping[str, Any]) -> Path:
        """Write a file into the folder; a mapping as JSON."""
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    def set_host(self, host: str, **variables: Any) -> None:
        """Change what the inventory says about one host, by a second inventory that comes after the first."""
        folder = self.folder / "inventory"
        folder.mkdir(exist_ok=True)
        words = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in variables.items())
        (folder / "2-changes.ini").write_text(f"{host} {words}\n", encoding="utf-8")
        (folder / "1-lab.yml").write_text(self.inventory.read_text(encoding="utf-8"), encoding="utf-8")
        self.inventory = folder

    def _change_inventory(self, without: Collection[str], variables: Mapping[str, Any]) -> None:
        document = yaml.safe_load(self.inventory.read_text(encoding="utf-8"))
        group = document["all"]["children"]["hypervisors"]
        group["hosts"] = {name: host for name, host in group["hosts"].items() if name not in without}
        group["vars"] |= variables
        self.inventory.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    def reports(self) -> list[dict[str, Any]]:
        """Return the reports that were written, the oldest first."""
        found = [json.loads(path.read_text(encoding="utf-8")) for path in self.folder.glob("kvmops-reports/*.json")]
        return sorted(found, key=lambda report: str(report["finished_at"]))

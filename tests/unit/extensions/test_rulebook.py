# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ansible-rulebook itself carries out the rulebook: each playbook is started, and not again within its cool-down."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from harness.ansible import CHECKOUT, environment, program

RULEBOOK = shutil.which("ansible-rulebook")
PATIENCE_S = 120.0
#: Always under pressure. Each look leaves a file.
HOST_INFO = """
import tempfile
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule({"name": {"type": "str"}})
tempfile.mkstemp(dir=LOOKS)
module.exit_json(snapshot={"host": "a", "capacity": {"memory_bytes": 100, "available_bytes": 5}, "domains": []})
"""


def collection(folder: Path) -> Path:
    """The collection with a host of its own making, and playbooks that only say that they were started."""
    mine = folder / "collections/ansible_collections/kvmops/cluster"
    for name in ("plugins/modules", "playbooks", "extensions/eda/rulebooks", "extensions/eda/plugins"):
        (mine / name).mkdir(parents=True)
    for name in ("galaxy.yml", "meta"):
        (mine / name).symlink_to(CHECKOUT / name)
    (folder / "looks").mkdir()
    text = HOST_INFO.replace("LOOKS", repr(str(folder / "looks")))
    (mine / "plugins/modules/host_info.py").write_text(text, encoding="utf-8")
    (mine / "extensions/eda/plugins/event_source").symlink_to(CHECKOUT / "extensions/eda/plugins/event_source")
    for name in ("drain_host", "rebalance"):
        say = f"echo {name} {{{{ drain_host_name | default('') }}}} >> {folder}/started"
        task = {"ansible.builtin.shell": say, "delegate_to": "localhost"}
        play = {"hosts": "all", "gather_facts": False, "tasks": [task]}
        (mine / f"playbooks/{name}.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
    return mine


def write_rulebook(mine: Path) -> int:
    """The rulebook, with looks that follow at once and a port that is free. Return the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    [book] = yaml.safe_load((CHECKOUT / "extensions/eda/rulebooks/hosts.yml").read_text(encoding="utf-8"))
    looks, alerts = book["sources"]
    looks["kvmops.cluster.hosts"]["interval_s"] = 0
    alerts["eda.builtin.webhook"]["port"] = str(port)
    (mine / "extensions/eda/rulebooks/hosts.yml").write_text(yaml.safe_dump([book]), encoding="utf-8")
    return port


def post(port: int, token: str, host: str = "a") -> bool:
    """Send an alert. Whether it was taken."""
    body = json.dumps({"kvmops": {"kind": "hardware_alert", "host": host}}).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/endpoint", body, headers)
    try:
        return bool(urllib.request.urlopen(request, timeout=10).status == 200)
    except (urllib.error.URLError, OSError):
        return False


def wait(condition) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.2)


@pytest.mark.soak
@pytest.mark.skipif(RULEBOOK is None, reason="ansible-rulebook is not installed")
@pytest.mark.skipif(shutil.which("java") is None, reason="ansible-rulebook needs Java")
def test_the_rulebook_drains_on_an_alert_and_rebalances_under_pressure(tmp_path):
    mine = collection(tmp_path)
    port = write_rulebook(mine)
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = tmp_path / "inventory.yml"
    inventory.write_text(yaml.safe_dump({"all": {"hosts": {"a": here}}}), encoding="utf-8")
    (tmp_path / "vars.yml").write_text(yaml.safe_dump({"inventory": str(inventory), "token": "secret"}), "utf-8")
    folders = (str(Path(program("ansible-playbook")).parent), str(Path(RULEBOOK).parent), os.environ["PATH"])
    surroundings = environment(ANSIBLE_COLLECTIONS_PATH=str(tmp_path / "collections"), PATH=":".join(folders))
    started = tmp_path / "started"

    def lines() -> list[str]:
        return started.read_text(encoding="utf-8").splitlines() if started.exists() else []

    def looks() -> int:
        return len(list((tmp_path / "looks").iterdir()))

    with (tmp_path / "output").open("w", encoding="utf-8") as output:
        command = [RULEBOOK, "-r", "kvmops.cluster.hosts", "-i", str(inventory), "--vars", str(tmp_path / "vars.yml")]
        running = subprocess.Popen(
            command, cwd=tmp_path, env=surroundings, stdout=output, stderr=output, start_new_session=True
        )
        try:
            wait(lambda: "rebalance" in lines() or running.poll() is not None)
            assert running.poll() is None, (tmp_path / "output").read_text(encoding="utf-8")
            assert not post(port, "another")
            assert post(port, "secret")
            wait(lambda: "drain_host a" in lines())
            assert post(port, "secret")
            # It would be a variable of Ansible, which evaluates expressions.
            for host in ("{{ 'b' }}", "a {{ 1 }}", "-oProxyCommand=x", "a\nb"):
                assert post(port, "secret", host)
            before = looks()
            wait(lambda: looks() > before + 3)
        finally:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()

    assert sorted(lines()) == ["drain_host a", "rebalance"]

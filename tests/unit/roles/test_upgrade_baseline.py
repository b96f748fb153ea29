# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A dead host, and ways that no guest needs, do not keep the others from being upgraded."""

from __future__ import annotations

import json

from ansible_collections.kvmops.cluster.tests.unit.builders import domain, path, snapshot

from .conftest import part
from .test_upgrade_lease import HOST_INFO

CUT = [{"check": "connect", "ok": False, "code": "connect", "reason": "no route to host", "remedy": "mend it"}]
WAYS = {
    "a": [path("a", "b"), path("a", "c", ok=False, checks=CUT)],
    "b": [path("b", "a"), path("b", "c")],
    "c": [path("c", "a", ok=False, checks=CUT), path("c", "b")],
}
PATHS = f"""
import json

from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule({{name: {{"type": "raw"}} for name in (
    "name", "uri", "destinations", "encryption", "timeout_s")}})
module.exit_json(paths=json.loads({json.dumps(WAYS)!r})[module.params["name"]])
"""
HEALTH = """
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule({name: {"type": "raw"} for name in ("name", "uri", "state_dir", "expected")})
module.exit_json(health={"libvirt": "11.3.0", "qemu": "10.0.2", "pools": [], "networks": [], "mounts": []})
"""


def test_what_no_move_needs_is_told_and_kept_and_does_not_stop_the_upgrade(hosts):
    hosts.pretend("host_info", HOST_INFO)
    hosts.pretend("migration_path_info", PATHS)
    hosts.pretend("host_health_info", HEALTH)
    run = {
        "__rolling_upgrade_intent": {},
        "__rolling_upgrade_left": ["b", "c"],
        "__rolling_upgrade_skipped": [],
        "__rolling_upgrade_run": "r1",
        "rolling_upgrade_owner": "alice",
    }

    outcome = hosts.play(part("rolling_upgrade", "prepare/baseline"), hosts="all", **run)

    assert "2 hosts are emptied in 2 waves with 0 moves" in outcome.words, outcome.text
    assert "no route to host" in outcome.words
    assert "gone: note: " in outcome.words
    ways = {host: kept["broken_ways"] for host, kept in hosts.kept("upgrade.json").items()}
    assert ways == {"b": [], "c": [["c", "a"], ["a", "c"]]}


def test_no_guest_is_to_be_shut_down_while_a_host_is_silent_and_it_is_said_why(hosts):
    why = {"code": "hostdev", "reason": "a GPU", "remedy": "detach it"}
    there = json.dumps(snapshot("b", domain("gpu1", blockers=[why])))
    hosts.pretend("host_info", HOST_INFO.replace(json.dumps(snapshot("b")), there))
    hosts.pretend("migration_path_info", PATHS)
    hosts.pretend("host_health_info", HEALTH)
    run = {
        "__rolling_upgrade_intent": {"allow_shutdown": True},
        "__rolling_upgrade_left": ["b"],
        "__rolling_upgrade_skipped": [],
        "__rolling_upgrade_run": "r1",
        "rolling_upgrade_owner": "alice",
        "rolling_upgrade_allow_shutdown": True,
    }

    outcome = hosts.play(part("rolling_upgrade", "prepare/baseline"), hosts="all", **run)

    assert outcome.status == 2, outcome.text
    assert "if gpu1 were shut down, it could not be started again while gone does not answer" in outcome.words
    assert "gpu1 cannot leave, and may not be shut down" in outcome.words
    assert "Nothing was moved or upgraded." in outcome.words

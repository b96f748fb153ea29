# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host that still has the definition of a guest that runs elsewhere may start it a second time at boot."""

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import left_definitions
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.changes import changes_since
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners import planning
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.request import Request
from ansible_collections.kvmops.cluster.plugins.plugin_utils.checks.host_checks import check_left_definitions
from ansible_collections.kvmops.cluster.tests.unit.builders import cluster, disk, domain, plan_document, snapshot


def left(name="web1", **changes):
    return domain(
        name, **{"state": "shutoff", "state_reason": "migrated", "autostart": True, "balloon": None, **changes}
    )


def seen(*on_h1, **elsewhere):
    return cluster(
        snapshot("h1", domain("db1"), *on_h1), snapshot("h2", domain("web1"), domain("web2")), snapshot("h3")
    )


def codes(remarks):
    return [remark["code"] for remark in remarks]


TWICE = {
    "code": "left_over_autostart",
    "reason": "h1 would start web1 at boot, which runs on h2",
    "remedy": "remove the definition that was left behind: virsh undefine --keep-nvram web1 on h1; or keep it and let"
    " it start nothing: virsh autostart --disable web1 on h1",
}


def test_a_definition_with_autostart_of_a_guest_that_runs_elsewhere_is_told_with_the_commands():
    assert left_definitions.remarks(["h1"], seen(left())) == [TWICE]


def test_the_state_of_a_tpm_is_kept_by_the_command():
    (remark,) = left_definitions.remarks(["h1"], seen(left(tpm=True)))
    assert "virsh undefine --keep-nvram --keep-tpm web1 on h1" in remark["remedy"]


def test_an_awkward_name_is_quoted_in_the_commands():
    hosts = cluster(snapshot("h1", left("two words")), snapshot("h2", domain("two words")))
    (remark,) = left_definitions.remarks(["h1"], hosts)
    assert "virsh autostart --disable 'two words' on h1" in remark["remedy"]


def test_left_definitions_without_autostart_are_told_together():
    hosts = seen(left(autostart=False), left("web2", autostart=False))
    assert left_definitions.remarks(["h1"], hosts) == [
        {
            "code": "left_over",
            "reason": "h1 still has definitions of web1 and web2, which run on h2",
            "remedy": "virsh undefine --keep-nvram web1 on h1, and so on, if nobody needs them there",
        }
    ]


@pytest.mark.parametrize(
    "hosts",
    [
        # It runs nowhere, so it is a guest that is shut off.
        cluster(snapshot("h1", left()), snapshot("h2")),
        # Both are definitions only.
        cluster(snapshot("h1", left()), snapshot("h2", left())),
        # It runs here.
        cluster(snapshot("h1", domain("web1")), snapshot("h2", left())),
    ],
)
def test_nothing_is_said_of_a_guest_that_does_not_run_elsewhere(hosts):
    assert left_definitions.remarks(["h1"], hosts) == []


def test_a_host_that_gave_no_answer_has_no_remark():
    assert left_definitions.remarks(["h9"], seen(left())) == []


@pytest.mark.parametrize("goal", ["drain", "evacuate", "restore"])
def test_a_plan_for_the_host_says_so(goal):
    hosts = seen(left(), left("web2", autostart=False), domain("old", state="shutoff"))
    made = planning.make(Request(goal, ["h1"]), Constraints(hosts))
    assert codes(made.planned.remarks) == ["left_over_autostart", "left_over"]
    off = [(one["guest"]["name"], one["host"]) for one in made.off]
    assert off == ([] if goal == "restore" else [("old", "h1")])


def test_a_rolling_upgrade_of_the_host_says_so():
    made = planning.make(Request("upgrade", ["h1", "h2", "h3"]), Constraints(seen(left())))
    assert TWICE in made.planned.remarks
    assert made.off == []


def test_a_saved_plan_is_refused_when_the_host_has_one_now():
    before, now = seen(), seen(left())
    plan = plan_document(before)
    plan["goal"] = {"kind": "drain", "hosts": ["h1"]}
    assert TWICE not in changes_since(plan, before)
    assert TWICE in changes_since(plan, now)


def test_preflight_fails_for_one_with_autostart_and_notes_one_without():
    found = check_left_definitions(["h1", "h2"], seen(left(), left("web2", autostart=False)))
    assert [(one["host"], one["bad"], one["refusal"]["code"]) for one in found] == [
        ("h1", True, "left_over_autostart"),
        ("h1", False, "left_over"),
    ]


def other(name="web1-new", **changes):
    """A guest of its own that is shut off on h1, with the disk of web1."""
    return left(name, disks=[disk(source="/shared/vda.qcow2")], **changes)


def test_a_guest_that_would_start_from_the_disk_of_another_is_told_as_well():
    found = left_definitions.remarks(["h1", "h2"], seen(other()))
    assert found == [
        {
            "code": "left_over_autostart",
            "reason": "h1 would start web1-new at boot from /shared/vda.qcow2, to which web1 on h2 writes",
            "remedy": "let it start nothing: virsh autostart --disable web1-new on h1; or give it another disk",
        }
    ]
    (bad,) = check_left_definitions(["h1"], seen(other()))
    assert bad["bad"]
    before = seen()
    assert found[0] in changes_since(
        {**plan_document(before), "goal": {"kind": "drain", "hosts": ["h1"]}}, seen(other())
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"autostart": False},
        {"disks": [disk(source="/shared/another.qcow2")]},
        {"disks": [disk(source="/shared/vda.qcow2", readonly=True)]},
        {"disks": [disk(source="/shared/vda.qcow2", shareable=True)]},
        # It may be another file on each host, or another device.
        {"disks": [disk(source="/shared/vda.qcow2", shared=False)]},
        {"disks": [disk(source="/dev/sdb", type="block")]},
        {"disks": []},
    ],
)
def test_disks_that_no_other_guest_writes_to(changes):
    hosts = seen({**other(), **changes})
    hosts["h2"]["domains"][0]["disks"].append(disk("vdb", source="/dev/sdb", type="block"))
    assert left_definitions.remarks(["h1"], hosts) == []


def test_a_share_of_the_same_path_may_be_another():
    hosts = seen(other())
    hosts["h2"]["mounts"] = [{"path": "/shared", "type": "nfs4", "source": "nas:/other", "shared": True}]
    assert left_definitions.remarks(["h1"], hosts) == []


def test_a_lun_of_a_san_has_no_lock_at_all():
    lun = disk(source="/dev/disk/by-id/wwn-0x5000", type="block")
    hosts = seen({**other(), "disks": [lun]})
    hosts["h2"]["domains"][0]["disks"] = [lun]
    (found,) = left_definitions.remarks(["h1"], hosts)
    assert found["reason"] == (
        "h1 would start web1-new at boot from /dev/disk/by-id/wwn-0x5000, to which web1 on h2 writes"
    )

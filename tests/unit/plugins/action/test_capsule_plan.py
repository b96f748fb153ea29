# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
from unittest import mock

import pytest
from ansible.errors import AnsibleError
from ansible.playbook.task import Task
from ansible.template import Templar

from ansible_collections.kvmops.cluster.plugins.action import capsule_plan
from ansible_collections.kvmops.cluster.plugins.filter import capsule_table
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.both_ends import AFTER_LOOK_S, UNSEEN_S
from ansible_collections.kvmops.cluster.tests.unit.builders import MIB, disk, domain, record, snapshot, working_set

BASE = "blocks:" + "1" * 64
PERMITTED = {"allow_suspend": True, "allow_storage_copy": True, "max_downtime_ms": 20_000, "encryption": "off"}


@pytest.fixture
def run():
    """Run the action; whatever it does beyond documents, to a connection for example, fails."""

    def run_action(**arguments):
        task = Task.load({"action": "kvmops.cluster.x", "args": arguments})
        task.check_mode, task.diff, task.async_val, task.args = False, False, 0, arguments
        action = capsule_plan.ActionModule(
            task=task,
            connection=mock.Mock(spec=["_shell"], _shell=mock.Mock(spec=["tmpdir"], tmpdir="/nowhere")),
            play_context=mock.Mock(check_mode=False),
            loader=mock.Mock(),
            templar=mock.Mock(spec=Templar),
            shared_loader_obj=mock.Mock(),
        )
        return action.run(task_vars={})

    return run_action


def guest(name="db1", **changes):
    own = disk(
        "vda", source="/img/db1.qcow2", shared=False, shared_why="ext4", capacity_bytes=64 * MIB, data_bytes=64 * MIB,
        allocation_bytes=MIB, backing=["/img/base.qcow2"],
    )  # fmt: skip
    return domain(name, disks=[own], memory_bytes=96 * MIB, **changes)


def measured(one):
    return {**working_set(one, hot_bytes=40_000), "touched_bytes": 64 * MIB, "compressed_share": 0.4}


def capsule(one, seconds_ago, number=3, **changes):
    made_at = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds_ago)
    return {
        "guest": {"name": one["name"], "uuid": one["uuid"]}, "number": number, "digest": f"sha256:{number}",
        "made_at": made_at.strftime("%Y-%m-%dT%H:%M:%SZ"), "missing": [],
        "disks": [{"target": "vda", "image": BASE}], "memory": {"image": BASE}, **changes,
    }  # fmt: skip


def sites(*guests, **changes):
    return [snapshot("h1", *guests), snapshot("h3", **changes)]


def test_a_guest_with_a_capsule_at_the_far_end_is_there_in_seconds(run):
    one = guest()
    stored = {"images": [{"image": BASE, "path": "/img/base.qcow2"}], "capsules": [capsule(one, 3600)]}
    result = run(
        destinations=["h3"], snapshots=sites(one), working_sets=[measured(one)], rate="384kbit", delay_ms=40,
        intent=PERMITTED, capsules={"h1": stored, "h3": stored},
    )  # fmt: skip
    (choice,) = result["choices"]
    assert (choice["mode"], choice["source"], choice["destination"]) == ("suspended", "h1", "h3")
    # 1 MiB of the top layer, at 45.6 kB/s.
    assert choice["modes"]["suspended"]["useful_s"]["value"] < 25
    assert choice["modes"]["suspended"]["avoided_by"]["base"] == 63 * MIB
    assert choice["modes"]["live"]["useful_s"]["value"] > 300
    assert result["refusals"] == []
    assert result["summary"].startswith("1 of 1 guests can go (1 suspended), ")
    # Without that capsule everything is sent, as the far end does not have it in full.
    there = {**stored, "capsules": [capsule(one, 3600, missing=["vda"])]}
    cold = run(
        destinations=["h3"], snapshots=sites(one), working_sets=[measured(one)], rate="384kbit", delay_ms=40,
        intent=PERMITTED, capsules={"h1": stored, "h3": there},
    )  # fmt: skip
    assert cold["choices"][0]["modes"]["suspended"]["useful_s"]["value"] > 450


def test_what_was_written_since_a_capsule_counts_and_not_the_file_that_it_made_grow(run):
    one = guest()
    stored = {"images": [{"image": BASE, "path": "/img/base.qcow2"}], "capsules": [capsule(one, 60)]}

    def sent(rate):
        working = {**measured(one), "disk_write_bytes_per_s": rate}
        result = run(
            destinations=["h3"], snapshots=sites(one), working_sets=[working], rate="384kbit", delay_ms=40,
            intent=PERMITTED, capsules={"h1": stored, "h3": stored},
        )  # fmt: skip
        return result["choices"][0]["modes"]["suspended"]["bytes"]["value"]

    # 1 MiB is the whole top layer, which is the most that can differ.
    assert sent(0) < sent(4096) < sent(None) == sent(10**6)


def look(one, number=3, memory=None, **disks):
    """What working_set_info has found: bytes that have changed, and the share that compression leaves of them."""
    keys = ("changed_bytes", "compressed_share")
    return {
        "guest": {"name": one["name"], "uuid": one["uuid"]}, "number": number, "digest": f"sha256:{number}",
        "memory": memory and dict(zip(keys, memory, strict=True)),
        "disks": {target: dict(zip(keys, found, strict=True)) for target, found in disks.items()},
    }  # fmt: skip


def test_what_a_look_has_found_since_a_capsule_is_what_is_sent(run):
    one = guest()
    stored = {"images": [{"image": BASE, "path": "/img/base.qcow2"}], "capsules": [capsule(one, 3600)]}

    def sent(*changes, rate=0, state="running"):
        working = {**measured(one), "disk_write_bytes_per_s": rate}
        result = run(
            destinations=["h3"], snapshots=sites({**one, "state": state}), working_sets=[working], rate="384kbit",
            intent=PERMITTED, capsules={"h1": stored, "h3": stored}, changes=list(changes),
        )  # fmt: skip
        return result["choices"][0]["modes"]["suspended"]["bytes"]

    found = sent(look(one, memory=(800_000, 0.25), vda=(400_000, 0.5)))
    assert found["value"] == 400_000
    # A quarter more or less of what has changed, and a tenth of what disks compress to.
    assert found["low"] < 400_000 - 40_000
    assert found["high"] > 400_000 + 40_000
    # What the look has not seen of its writes comes on top.
    assert sent(look(one, memory=(800_000, 0.25), vda=(400_000, 0.5)), rate=4096)["value"] == pytest.approx(
        400_000 + 0.5 * 4096 * UNSEEN_S, rel=0.01
    )
    whole = look(one, memory=(800_000, 0.25), vda=(400_000, 0.5))
    whole["disks"]["vda"]["unflushed_seen"] = True
    assert sent(whole, rate=4096)["value"] == pytest.approx(400_000 + 0.5 * 4096 * AFTER_LOOK_S, rel=0.01)
    # It says nothing of another capsule, and nothing of memory that is not saved.
    assert sent(look(one, number=2, memory=(8, 1.0), vda=(8, 1.0)))["value"] == sent()["value"]
    assert sent(look(one, memory=(800_000, 0.25), vda=(400_000, 0.5)), state="shutoff")["value"] == 200_000
    # What it could not tell is reckoned as ever.
    assert sent(look(one))["value"] == sent()["value"]


def test_of_several_hosts_the_one_that_has_the_guest_already_gets_it(run):
    one, other = guest(), guest("web1")
    stored = {"images": [], "capsules": [capsule(one, 60)]}
    result = run(
        sources=["h1"], destinations=["h3", "h4"], rate="20mbit", intent=PERMITTED,
        snapshots=[snapshot("h1", one, other), snapshot("h3"), snapshot("h4")],
        capsules={"h1": stored, "h4": stored},
    )  # fmt: skip
    places = {choice["guest"]["name"]: choice["destination"] for choice in result["choices"]}
    # The room that db1 takes on h4 is not there for web1.
    assert places == {"db1": "h4", "web1": "h3"}


def test_why_a_guest_cannot_get_there_and_what_to_do(run):
    one = guest()
    closed = {"maintenance": record("cordoned")}
    result = run(destinations=["h3"], snapshots=sites(one, **closed), rate="20mbit", intent=PERMITTED)
    (refused,) = result["refusals"]
    assert refused["code"] == "no_capsule_mode"
    assert "suspended: h3 is cordoned" in refused["reason"]
    assert refused["remedy"].startswith("open h3 again")
    old = {"versions": {"libvirt": "9.0.0", "qemu": "10.0.2"}}
    result = run(destinations=["h3"], snapshots=sites(one, **old), rate="20mbit", intent=PERMITTED)
    lazy = result["choices"][0]["modes"]["lazy"]["ruled_out"]
    assert (lazy["code"], lazy["remedy"]) == ("lazy_libvirt", "upgrade libvirt on h3 to 9.2 or later")


def test_a_guest_that_does_not_fit_is_refused_with_figures(run):
    big = domain("big", memory_bytes=2**46)
    result = run(destinations=["h3"], snapshots=sites(big), rate="1gbit", intent=PERMITTED)
    refused = result["choices"][0]["modes"]["suspended"]["ruled_out"]
    assert refused["code"] == "no_memory"
    assert refused["reason"].startswith("big needs 64.")
    assert result["refusals"][0]["remedy"] == "free memory on h3, or name more hosts in destinations"


def test_a_guest_that_is_off_has_no_memory_to_send(run):
    result = run(destinations=["h3"], snapshots=sites(guest(state="shutoff")), rate="20mbit", intent=PERMITTED)
    (choice,) = result["choices"]
    assert choice["mode"] == "suspended"
    assert choice["modes"]["live"]["ruled_out"]["code"] == "shut_off"
    assert choice["modes"]["suspended"]["bytes"]["value"] < 64 * MIB


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"rate": "fast"}, "rate is 'fast', which is no rate: set rate to bits in a second, such as 384kbit"),
        ({"rate": None}, "nobody knows what the link from h1 to h3 carries: set rate (such as 20mbit)"),
        ({"destinations": ["h9"]},
         "destinations names h9, and there is no snapshot of that: give hosts that have answered (h1 and h3)"),
        ({"destinations": []}, "destinations is empty: name the hosts at the far end in destinations"),
        ({"overheads": {"save": 1}}, "overheads has save, which it does not know: it knows save_s, restore_s"),
        ({"overheads": {"save_s": "long"}}, "give seconds, as numbers of 0 or more"),
        ({"intent": {"allow_suspnd": True}}, "did you mean allow_suspend?"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(run, changes, text):
    result = run(**{"destinations": ["h3"], "snapshots": sites(guest()), "rate": "20mbit", **changes})
    assert result["failed"] is True
    assert text in result["msg"]


def test_a_guest_that_nobody_knows_is_refused(run):
    with pytest.raises(AnsibleError, match="guests: there is no guest called 'db9' on h1"):
        run(destinations=["h3"], snapshots=sites(guest()), rate="20mbit", guests=["db9"])


def test_the_table(run):
    one = guest()
    chosen = run(
        destinations=["h3"], snapshots=sites(one, guest("web1")), working_sets=[measured(one)], rate="384kbit",
        intent=PERMITTED, guests=["db1"],
    )  # fmt: skip
    lines = capsule_table.FilterModule().filters()["capsule_table"](chosen["choices"])
    assert lines[0].split() == [
        "GUEST",
        "FROM",
        "TO",
        "OF",
        "USE",
        "AFTER",
        "DOWNTIME",
        "SENT",
        "FILLED",
        "AFTER",
        "HOW",
    ]
    assert lines[1].split()[:3] == ["db1", "h1", "h3"]
    assert any(line.startswith("db1: it ") for line in lines)
    assert any(line.startswith("  not sent: 32 MiB zeros") for line in lines)
    refused = run(destinations=["h3"], snapshots=sites(one), rate="384kbit")
    lines = capsule_table.FilterModule().filters()["capsule_table"](refused["choices"])
    assert lines[1].split()[-2:] == ["not", "possible"]
    assert lines[3].startswith("there is no way to get db1 there (live: ")
    assert lines[-1].startswith("  -> ")
    assert capsule_table.FilterModule().filters()["capsule_table"]([]) == ["There is no guest to choose for."]


def test_how_far_the_far_end_is(run):
    one = guest()
    here = {"images": [], "capsules": [capsule(one, 60, number=4), capsule(one, 3600)]}
    there = {"images": [], "capsules": [capsule(one, 60, number=4, missing=["vda"]), capsule(one, 3600)]}
    stores = {"h1": here, "h3": there}
    result = run(destinations=["h3"], snapshots=sites(one), rate="20mbit", intent=PERMITTED, capsules=stores)
    (choice,) = result["choices"]
    assert (choice["newest"]["number"], choice["seed"]["number"]) == (4, 3)
    assert choice["seed"]["age_s"] == pytest.approx(3600, abs=60)
    none = run(destinations=["h3"], snapshots=sites(one), rate="20mbit", intent=PERMITTED)["choices"][0]
    assert (none["newest"], none["seed"]) == (None, None)


def test_a_guest_that_runs_at_the_far_end_has_arrived(run):
    left = guest(state="shutoff")
    seen = [snapshot("h1", left), snapshot("h3", guest())]
    result = run(destinations=["h3"], snapshots=seen, rate="20mbit", intent=PERMITTED)
    assert result["choices"] == []
    assert result["arrived"] == [{"guest": {"name": "db1", "uuid": left["uuid"]}, "source": "h1", "destination": "h3"}]


def test_a_guest_that_only_the_far_end_has_is_left_alone(run):
    seen = [snapshot("h1"), snapshot("h3", guest())]
    given = {"destinations": ["h3"], "snapshots": seen, "rate": "20mbit", "intent": PERMITTED}
    result = run(**given, guests=["db1"])
    assert (result["choices"], result["arrived"]) == ([], [])
    assert result["there"] == [
        {"guest": {"name": "db1", "uuid": guest()["uuid"]}, "destination": "h3", "state": "running"}
    ]
    # Guests that nobody named are no business of this run.
    assert run(**given)["there"] == []


def test_a_guest_that_nobody_has_is_refused(run):
    seen = [snapshot("h1"), snapshot("h3")]
    with pytest.raises(AnsibleError, match="guests: there is no guest called 'db9' on h1, h3"):
        run(destinations=["h3"], snapshots=seen, rate="20mbit", intent=PERMITTED, guests=["db9"])


def test_only_modes_that_are_wanted_are_chosen(run):
    given = {"destinations": ["h3"], "snapshots": sites(guest()), "rate": "20mbit", "intent": PERMITTED}
    assert run(**given, modes=["suspended"])["choices"][0]["mode"] == "suspended"
    lazy = run(**given, modes=["suspended"])["choices"][0]["modes"]["lazy"]["ruled_out"]
    assert lazy["reason"] == "only suspended is wanted"
    refused = run(**given, modes=["carry"])["refusals"][0]
    assert "nobody said how long it takes to carry a disk there" in refused["reason"]


def test_what_is_sent_ahead(run):
    one = guest()
    given = {"destinations": ["h3"], "snapshots": sites(one), "working_sets": [measured(one)], "rate": "384kbit"}
    result = run(**given, intent={**PERMITTED, "max_downtime_ms": 15_000}, modes=["suspended"])
    (choice,) = result["choices"]
    assert choice["modes"]["suspended"]["settings"]["seeds"] == len(result["ahead"]) > 0
    assert result["ahead"][0]["guest"]["name"] == "db1"
    assert result["seconds"] == pytest.approx(choice["modes"]["suspended"]["useful_s"]["value"])


def test_a_disk_that_rests_on_layers_of_capsules_is_not_copied_but_sent(run):
    pool = {
        "name": "images", "type": "dir", "path": "/img", "active": True, "capacity_bytes": 10**12,
        "available_bytes": 10**12, "volumes": [],
    }  # fmt: skip
    result = run(destinations=["h3"], snapshots=sites(guest(), storage_pools=[pool]), rate="1gbit", intent=PERMITTED)
    (choice,) = result["choices"]
    assert choice["mode"] == "suspended"
    assert choice["modes"]["lazy"]["ruled_out"]["code"] == "no_backing_file"

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.hooks import Hook
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import taken_memory
from ansible_collections.kvmops.cluster.plugins.module_utils.run.this_boot import boot_id
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare import hook_runs
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.hooks import HookResult
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.preparation import (
    LinkTurn,
    Preparation,
    PreparationOptions,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.reachability import Reachability
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt
from ansible_collections.kvmops.cluster.tests.unit.movers import Clock

MIB = 1 << 20
SLOW = 20.0 * MIB
FULL_KIB = 512 << 10
METADATA = """<metadata><k:guest xmlns:k="https://kvmops.cluster/xmlns/guest/1">{}</k:guest></metadata></domain>"""
#: Real time goes on while a test runs.
CLOSE = 1.0


class Rig:
    """A guest that is about to move from h1 to h2; commands only leave a trace."""

    def __init__(self, cluster, tmp_path, monkeypatch):
        self.hosts = {name: cluster.add_host(name) for name in ("h1", "h2")}
        self.guest = self.hosts["h1"].add_guest("web1", rss_kib=500 << 10)
        self.balloon = self.guest.balloon
        self.interrupted = threading.Event()
        self.state_dir = str(tmp_path)
        self.clock = Clock()
        self.began = self.clock()
        self.events = []
        #: (program, where it ran, KVMOPS_OUTCOME, seconds since the beginning)
        self.ran = []
        self.fails = set()
        self.takes_s = {}
        monkeypatch.setattr(hook_runs, "on_host", lambda hook, env: self.run(hook, "host", env))
        monkeypatch.setattr(
            hook_runs, "in_guest", lambda hook, domain, env, *_rest: self.run(hook, domain.connect().host.name, env)
        )

    def at(self):
        return round(self.clock() - self.began)

    def run(self, hook, place, env):
        assert (env["KVMOPS_GUEST"], env["KVMOPS_GUEST_UUID"]) == ("web1", self.guest.uuid)
        assert (env["KVMOPS_SOURCE"], env["KVMOPS_DESTINATION"]) == ("h1", "h2")
        self.ran.append((hook.name, place, env["KVMOPS_OUTCOME"], self.at()))
        self.clock.slept += self.takes_s.get(hook.name, 0)
        failed = hook.name in self.fails
        return HookResult(
            not failed, "it ended with status 3" if failed else None, "one\nno such database" if failed else ""
        )

    def domain_at(self, host, uuid):
        return libvirt.open(f"qemu+ssh://root@{host}/system").lookupByUUIDString(uuid)

    def tell(self, event, _phase, message, *, level=0, **_data):
        self.events.append((event, message))

    def names(self):
        return [name for name, _message in self.events]

    def prepared(
        self, *hooks, free_memory="never", bytes_per_s=SLOW, hugepage_bytes=None, guest_hooks=True, turn=None, **intent
    ):
        before = Preparation(
            PreparationOptions(free_memory, hooks, guest_hooks),
            self.state_dir,
            "h1",
            self.interrupted,
            self.domain_at,
            self.clock,
            self.clock.sleep,
        )
        step = {
            "id": "s1",
            "guest": {"name": "web1", "uuid": self.guest.uuid},
            "source": "h1",
            "destination": "h2",
        }
        guest = {"state": "running", "hugepage_bytes": hugepage_bytes}
        return before.prepared(step, guest, intent, self.tell, bytes_per_s=bytes_per_s, turn=turn or LinkTurn())

    def carry(self, hooks):
        """Write hooks into the guest's metadata."""
        self.guest.xml = self.guest.xml.replace("</domain>", METADATA.format(hooks))

    def lose_memory(self, most_kib=FULL_KIB, **record):
        """A run takes memory and is killed; the guest then takes back so much of it and no more."""
        taken = {"name": "web1", "uuid": self.guest.uuid, "before_kib": FULL_KIB, "target_kib": 128 << 10}
        (Path(self.state_dir) / "taken_memory").mkdir()
        taken_memory.store(self.state_dir, {"schema": taken_memory.SCHEMA, **taken, **record})
        self.balloon.size_kib = self.balloon.target_kib = 128 << 10
        self.balloon.most_kib = most_kib

    def arrive(self):
        self.hosts["h2"].add_guest("web1", uuid=self.guest.uuid)
        del self.hosts["h1"].guests[self.guest.uuid]


@pytest.fixture
def rig(cluster, tmp_path, monkeypatch):
    return Rig(cluster, tmp_path, monkeypatch)


def test_where_nothing_is_wished_nothing_is_done(rig):
    with rig.prepared() as ready:
        assert (ready.refusals, ready.freed_bytes) == ([], 0)
        ready.ended("moved")
    assert (rig.events, rig.ran, rig.hosts["h1"].cluster.writes) == ([], [], [])


# --- memory -------------------------------------------------------------------------------------------------------


def test_memory_is_freed_and_given_back_before_the_move(rig):
    with rig.prepared(free_memory="auto") as ready:
        assert ready.refusals == []
        assert ready.freed_bytes == (500 - 124 - 80) * MIB
        assert (rig.balloon.size_kib, taken_memory.guests(rig.state_dir)) == (FULL_KIB, [])
        ready.ended("moved")
    assert rig.names() == ["memory.freeing", "memory.freed"]
    assert rig.events[1][1] == "296 MiB freed"


@pytest.mark.parametrize(
    ("arrange", "options", "words"),
    [
        (lambda rig: None, {"bytes_per_s": 1000.0 * MIB}, "and take 4.4 s to free"),
        (lambda rig: None, {"bytes_per_s": None}, "the speed of the link is not known yet"),
        (lambda rig: None, {"hugepage_bytes": 2 * MIB}, "huge pages"),
        (lambda rig: None, {"max_slowdown_pct": 0}, "permits no slowdown"),
        (lambda rig: setattr(rig.balloon, "driver", False), {}, "is its balloon driver loaded"),
        (lambda rig: setattr(rig.balloon, "swaps_kib", 8), {}, "it swaps (8 KiB since its previous report)"),
        (lambda rig: setattr(rig.balloon, "need_kib", 480 << 10), {}, "short of memory"),
        (lambda rig: rig.guest.host.guests.pop(rig.guest.uuid), {}, "no domain with matching uuid"),
    ],
)
def test_a_guest_that_is_left_alone_moves_all_the_same_and_it_is_said_why(rig, arrange, options, words):
    arrange(rig)
    with rig.prepared(free_memory="auto", **options) as ready:
        assert (ready.refusals, ready.freed_bytes) == ([], 0)
    assert rig.names() == ["memory.kept"]
    assert words in rig.events[0][1]
    assert rig.hosts["h1"].cluster.writes == []


def test_a_guest_that_reports_no_second_time_is_left_alone(rig):
    def look(balloon):
        balloon.reported_at -= 1

    rig.balloon.on_look = look
    with rig.prepared(free_memory="auto") as ready:
        assert ready.refusals == []
    assert rig.names() == ["memory.kept"]
    assert "reported its memory only once" in rig.events[0][1]
    assert 12 <= rig.clock.slept < 20


def test_a_guest_that_has_not_its_memory_back_does_not_move(rig):
    def look(balloon):
        if balloon.size_kib < 200 << 10:
            balloon.most_kib = 300 << 10

    rig.balloon.on_look = look
    with rig.prepared(Hook(("/bin/a",)), free_memory="auto") as ready:
        (refused,) = ready.refusals
    assert refused["code"] == "memory_not_returned"
    assert f"virsh setmem {rig.guest.uuid} {FULL_KIB} --live" in refused["remedy"]
    assert rig.names() == ["memory.freeing", "memory.freed", "memory.not_returned"]
    assert rig.ran == []


@pytest.mark.parametrize("free_memory", ["auto", "never"])
def test_a_guest_of_which_an_earlier_run_still_has_memory_does_not_move(rig, free_memory):
    rig.lose_memory(most_kib=300 << 10)
    with rig.prepared(Hook(("/bin/a",)), free_memory=free_memory) as ready:
        (refused,) = ready.refusals
    assert refused["code"] == "memory_not_returned"
    assert f"virsh setmem {rig.guest.uuid} {FULL_KIB} --live" in refused["remedy"]
    assert (rig.names(), rig.ran) == (["memory.not_returned"], [])
    assert taken_memory.read(rig.state_dir, rig.guest.uuid)["before_kib"] == FULL_KIB


def test_a_guest_gets_back_what_an_earlier_run_has_taken_and_moves(rig):
    rig.lose_memory()
    with rig.prepared() as ready:
        assert ready.refusals == []
        assert (rig.balloon.size_kib, taken_memory.guests(rig.state_dir)) == (FULL_KIB, [])
        ready.ended("moved")
    assert rig.events == [
        ("memory.returned", "web1 has all its 512 MiB back; a run that died had taken some of it"),
    ]


def test_a_guest_that_was_started_anew_since_moves_with_the_size_that_it_has(rig):
    rig.lose_memory(boot_id=boot_id(), domain_id=99)
    size_kib = rig.balloon.size_kib
    with rig.prepared() as ready:
        assert ready.refusals == []
        assert (rig.balloon.size_kib, taken_memory.guests(rig.state_dir)) == (size_kib, [])
        ready.ended("moved")
    ((event, words),) = rig.events
    assert event == "memory.returned"
    assert "runs in another QEMU" in words


@pytest.mark.parametrize("recorded", [True, False])
def test_a_guest_whose_memory_another_run_is_at_does_not_move(rig, recorded):
    if recorded:
        rig.lose_memory()
    with taken_memory.locked(rig.state_dir, rig.guest.uuid), rig.prepared(free_memory="auto") as ready:
        (refused,) = ready.refusals
    assert refused["code"] == "memory_not_returned"
    assert refused["reason"] == "another run is at the memory of web1 now"
    assert refused["remedy"] == "wait for its end, and run again"


def test_a_guest_does_not_move_when_it_cannot_be_known_whether_it_has_its_memory(rig, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    rig.lose_memory()
    monkeypatch.setattr(taken_memory, "locked", full)
    with rig.prepared() as ready:
        (refused,) = ready.refusals
    assert refused["code"] == "memory_not_returned"
    assert "No space left on device" in refused["reason"]


def test_an_interrupt_while_memory_is_freed_gives_it_back_and_moves_nothing(rig):
    def look(balloon):
        if balloon.size_kib < 300 << 10:
            rig.interrupted.set()

    rig.balloon.on_look = look
    with rig.prepared(free_memory="auto") as ready:
        assert [one["code"] for one in ready.refusals] == ["interrupted"]
        assert (rig.balloon.size_kib, taken_memory.guests(rig.state_dir)) == (FULL_KIB, [])


# --- commands -----------------------------------------------------------------------------------------------------


def test_each_command_runs_so_long_before_the_move_as_it_says(rig):
    hooks = [Hook(("/near",), seconds=2.0), Hook(("/now",)), Hook(("/far",), seconds=10.0)]
    with rig.prepared(*hooks) as ready:
        moved_at = rig.at()
        ready.ended("moved")
    assert [(name, place, outcome) for name, place, outcome, _at in rig.ran] == [
        ("/far", "host", "before"),
        ("/near", "host", "before"),
        ("/now", "host", "before"),
    ]
    assert [moved_at - at for _name, _place, _outcome, at in rig.ran] == pytest.approx([10, 2, 0], abs=CLOSE)
    assert rig.names() == ["hook.started", "hook.finished"] * 3


def test_the_move_waits_for_a_command_that_takes_longer(rig):
    rig.takes_s["/slow"] = 30
    with rig.prepared(Hook(("/slow",), seconds=5.0)):
        assert rig.at() == pytest.approx(30, abs=CLOSE)


def test_what_comes_after_runs_in_the_guest_where_it_is_now(rig):
    hooks = [
        Hook(("/late",), "after", 7.0, "guest", on_failure="go_on"),
        Hook(("/soon",), "after", 1.0, "host", on_failure="go_on"),
    ]
    with rig.prepared(*hooks) as ready:
        rig.arrive()
        ready.ended("moved")
    assert [one[:3] for one in rig.ran] == [("/soon", "host", "moved"), ("/late", "h2", "moved")]
    assert [one[3] for one in rig.ran] == pytest.approx([1, 7], abs=CLOSE)


@pytest.mark.parametrize(("outcome", "place"), [("failed", ["h1"]), ("unclear", [])])
def test_after_a_move_that_failed_it_runs_where_the_guest_stayed(rig, outcome, place):
    hook = Hook(("/thaw",), "after", where="guest", on_failure="go_on")
    with rig.prepared(hook) as ready:
        ready.ended(outcome)
    assert [one[1] for one in rig.ran] == place
    assert rig.names()[-1] == ("hook.finished" if place else "hook.failed")


def test_a_failure_refuses_the_move_and_what_comes_after_still_runs(rig):
    rig.fails = {"/freeze"}
    hooks = [
        Hook(("/freeze",), seconds=1.0),
        Hook(("/never",)),
        Hook(("/thaw",), "after", where="guest", on_failure="go_on"),
    ]
    with rig.prepared(*hooks) as ready:
        (refused,) = ready.refusals
    assert refused["code"] == "hook_failed"
    assert "/freeze failed before the move, on this host: it ended with status 3, no such database" in refused["reason"]
    assert [one[:3] for one in rig.ran] == [("/freeze", "host", "before"), ("/thaw", "h1", "refused")]
    assert rig.names() == ["hook.started", "hook.failed", "hook.started", "hook.finished"]


def test_a_failure_that_does_not_matter_is_told_and_the_move_goes_on(rig):
    rig.fails = {"/warn"}
    with rig.prepared(Hook(("/warn",), on_failure="go_on")) as ready:
        assert ready.refusals == []
    assert rig.names() == ["hook.started", "hook.failed"]


def test_a_mistake_in_the_move_does_not_keep_from_what_comes_after(rig):
    with pytest.raises(KeyError), rig.prepared(Hook(("/thaw",), "after", on_failure="go_on")):
        raise KeyError("ours")
    assert [one[:3] for one in rig.ran] == [("/thaw", "host", "unclear")]


def test_an_interrupt_ends_the_wait_before_the_move_and_undoes_at_once(rig):
    rig.clock.on_sleep = lambda clock: clock.slept > 3 and rig.interrupted.set()
    hooks = [
        Hook(("/freeze",), seconds=60.0),
        Hook(("/near",), seconds=5.0),
        Hook(("/thaw",), "after", 20.0, on_failure="go_on"),
    ]
    with rig.prepared(*hooks) as ready:
        assert [one["code"] for one in ready.refusals] == ["interrupted"]
    assert [one[0] for one in rig.ran] == ["/freeze", "/thaw"]
    assert rig.at() < 10


def test_a_guest_carries_its_own_commands_which_run_in_it(rig):
    rig.carry('<k:hook><k:arg>/bin/sync</k:arg></k:hook><k:hook when="after"><k:arg>/bin/thaw</k:arg></k:hook>')
    with rig.prepared(Hook(("/host",))) as ready:
        rig.arrive()
        ready.ended("moved")
    assert [one[:3] for one in rig.ran] == [
        ("/host", "host", "before"),
        ("/bin/sync", "h1", "before"),
        ("/bin/thaw", "h2", "moved"),
    ]


def test_metadata_that_wants_the_host_is_refused_and_nothing_runs(rig):
    rig.carry('<k:hook where="host"><k:arg>/sbin/poweroff</k:arg></k:hook>')
    with rig.prepared(Hook(("/host",))) as ready:
        (refused,) = ready.refusals
    assert (refused["code"], rig.ran) == ("bad_hook", [])


def test_hooks_of_a_guest_do_not_run_unless_that_is_permitted(rig):
    # Nobody reads them, so one that makes no sense keeps no guest.
    rig.carry('<k:hook where="host"><k:arg>/sbin/poweroff</k:arg></k:hook><k:hook check="agent"/>')
    with rig.prepared(Hook(("/host",)), guest_hooks=False) as ready:
        rig.arrive()
        ready.ended("moved")
    assert [one[0] for one in rig.ran] == ["/host"]
    assert (ready.refusals, ready.faults) == ([], [])
    assert ready.notes == ["web1 has 2 hooks in its metadata, which were not run: permit them with guest_hooks"]


def test_by_default_they_are_not_permitted(rig):
    rig.carry("<k:hook><k:arg>/bin/sync</k:arg></k:hook>")
    with rig.prepared(guest_hooks=PreparationOptions().guest_hooks) as ready:
        pass
    assert rig.ran == []
    assert ready.notes == ["web1 has 1 hook in its metadata, which was not run: permit it with guest_hooks"]


def test_a_guest_with_too_many_hooks_does_not_move_and_none_runs(rig):
    rig.carry('<k:hook timeout_s="1"><k:arg>/bin/sync</k:arg></k:hook>' * 12)
    with rig.prepared(Hook(("/host",))) as ready:
        (refused,) = ready.refusals
    assert refused["code"] == "bad_hook"
    assert refused["reason"] == "the metadata of web1 has 12 hooks, and 8 is the most"
    assert rig.ran == []


class Turn:
    """The turn of the guest at the link: what it did, among the commands that ran."""

    def __init__(self, rig, *, aside=True, take=True):
        self.given = LinkTurn(lambda: self._did("aside", aside), lambda: self._did("take", take))
        self._rig = rig

    def _did(self, what, may):
        self._rig.ran.append((what,))
        return may


def test_while_hooks_of_a_guest_run_it_has_no_turn(rig):
    rig.carry('<k:hook><k:arg>/bin/sync</k:arg></k:hook><k:hook when="after"><k:arg>/bin/thaw</k:arg></k:hook>')
    with rig.prepared(Hook(("/host",)), free_memory="auto", turn=Turn(rig).given) as ready:
        assert ready.stepped_aside
        assert ready.freed_bytes > 0
        ready.ended("failed")
    assert [one[0] for one in rig.ran] == ["aside", "/host", "/bin/sync", "take", "/bin/thaw"]
    # Memory fills up again, so it is freed when the guest has its turn.
    assert rig.names().index("memory.freeing") > rig.names().index("hook.finished")


@pytest.mark.parametrize("carried", ["", '<k:hook when="after"><k:arg>/bin/thaw</k:arg></k:hook>'])
def test_a_guest_without_hooks_before_its_move_keeps_its_turn(rig, carried):
    rig.carry(carried)
    with rig.prepared(Hook(("/host",)), turn=Turn(rig).given) as ready:
        ready.ended("failed")
    assert not ready.stepped_aside
    assert rig.ran[0][0] == "/host"


def test_a_guest_whose_hooks_refuse_the_move_does_not_queue_again(rig):
    rig.carry("<k:hook><k:arg>/bin/sync</k:arg></k:hook>")
    rig.fails = {"/bin/sync"}
    with rig.prepared(turn=Turn(rig).given) as ready:
        assert [one["code"] for one in ready.refusals] == ["hook_failed"]
    assert [one[0] for one in rig.ran] == ["aside", "/bin/sync"]


@pytest.mark.parametrize(
    ("turn", "ran"),
    [({"aside": False}, ["aside"]), ({"take": False}, ["aside", "/bin/sync", "take", "/bin/thaw"])],
)
def test_nothing_more_is_done_once_the_run_is_being_stopped(rig, turn, ran):
    rig.carry('<k:hook><k:arg>/bin/sync</k:arg></k:hook><k:hook when="after"><k:arg>/bin/thaw</k:arg></k:hook>')
    with rig.prepared(free_memory="auto", turn=Turn(rig, **turn).given) as ready:
        assert (ready.refusals, ready.freed_bytes) == ([], 0)
        ready.ended("not_started")
    assert [one[0] for one in rig.ran] == ran


def test_a_mistake_around_a_hook_is_a_failure_of_that_hook(rig, monkeypatch):
    def broken(*_arguments):
        raise TypeError("ours\x1b[2J")

    monkeypatch.setattr(hook_runs, "on_host", broken)
    ready = moved(rig, Hook(("/thaw",), "after", on_failure="go_on"))
    assert [(one["code"], one["reason"]) for one in ready.faults] == [
        (
            "hook_failed",
            "/thaw failed after the move, on h1: an error in this program (TypeError: ours\ufffd[2J)",
        )
    ]


# --- checks -------------------------------------------------------------------------------------------------------


@pytest.fixture
def checked(rig, monkeypatch):
    """Checks leave a trace as well: (hook, host). They fail on the hosts in ``rig.unreachable_on``."""
    rig.unreachable_on = set()

    def check(_self, hook, domain, timeout_s):
        host = domain.connect().host.name
        rig.ran.append((hook.name, host, timeout_s))
        failed = host in rig.unreachable_on
        return HookResult(not failed, "192.0.2.7: timed out" if failed else None, "")

    monkeypatch.setattr(Reachability, "check", check)
    return rig


PORT = Hook((), "after", check="port", port=22, on_failure="stop", timeout_s=20.0)
AGENT = Hook((), "after", where="guest", check="agent", on_failure="go_on")


def moved(rig, *hooks):
    with rig.prepared(*hooks) as ready:
        rig.arrive()
        ready.ended("moved")
    return ready


def test_a_guest_is_checked_before_its_move_and_where_it_is_then(checked):
    ready = moved(checked, PORT)
    assert (ready.faults, ready.notes) == ([], [])
    assert checked.ran == [("the check of port 22", "h1", 3.0), ("the check of port 22", "h2", 20.0)]


def test_a_check_that_fails_after_the_move_is_told_with_what_to_do(checked):
    checked.unreachable_on = {"h2"}
    assert moved(checked, PORT, AGENT).faults == [
        {
            "code": "hook_stops",
            "reason": "the check of port 22 failed after the move: 192.0.2.7: timed out",
            "remedy": "see whether web1 can be reached on h2; this run sends no further guest there from here",
        },
        {
            "code": "hook_failed",
            "reason": "the check of the guest agent failed after the move: 192.0.2.7: timed out",
            "remedy": "see whether web1 can be reached on h2",
        },
    ]


def test_a_guest_that_could_not_be_reached_before_says_nothing_of_its_destination(checked):
    checked.unreachable_on = {"h1", "h2"}
    ready = moved(checked, PORT)
    assert ready.faults == []
    assert ready.notes == ["the check of port 22 failed before the move already, so it was not made after it"]
    assert checked.ran == [("the check of port 22", "h1", 3.0)]
    assert checked.names() == ["hook.skipped"]


def test_a_guest_that_stays_is_not_checked(checked):
    with checked.prepared(PORT) as ready:
        ready.ended("failed")
    assert checked.ran == [("the check of port 22", "h1", 3.0)]
    assert ready.faults == []


def test_a_command_that_fails_after_the_move_is_told(rig):
    rig.fails = {"/thaw"}
    stop = Hook(("/thaw",), "after", on_failure="stop")
    assert [(one["code"], one["reason"]) for one in moved(rig, stop).faults] == [
        ("hook_stops", "/thaw failed after the move, on h1: it ended with status 3, no such database")
    ]


def test_a_command_that_fails_after_a_move_that_failed_stops_nobody(rig):
    rig.fails = {"/thaw"}
    with rig.prepared(Hook(("/thaw",), "after", on_failure="stop")) as ready:
        ready.ended("failed")
    assert [one["code"] for one in ready.faults] == ["hook_failed"]

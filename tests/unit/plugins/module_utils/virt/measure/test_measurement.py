# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.measure import (
    dirty_rate,
    measurement,
    memory_look,
    memory_sample,
)

#: What a call about one guest takes on a busy host.
CALL_S = 0.003
PIECE_S = 0.002
MIB_PER_S = 20
WRITTEN_PER_S = 20480


class Clock:
    """Stands in for the module ``time``: nobody waits, and time goes on."""

    def __init__(self):
        self.now = 1000.0
        self.pauses = []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


class Guest:
    """A guest as measuring sees it, each call of which takes its time."""

    def __init__(self, host, number):
        self.host = host
        self.number = number
        self.kib = 4 * 1024 * 1024
        self.done_at = 0.0
        self.windows = []
        self.peeks = []

    def name(self):
        return f"g{self.number:03d}"

    def UUIDString(self):  # noqa: N802
        return f"uuid-{self.number}"

    def connect(self):
        return self.host

    def jobStats(self, flags=0):  # noqa: N802
        self.host.clock.now += CALL_S
        return {"type": 0}

    def info(self):
        return [1, self.kib, self.kib, 1, 0]

    def startDirtyRateCalc(self, seconds, flags=0):  # noqa: N802
        self.host.clock.now += CALL_S
        assert self.host.clock.now >= self.done_at
        self.windows.append(seconds)
        self.done_at = self.host.clock.now + seconds

    def memoryPeek(self, start, size, flags):  # noqa: N802
        self.host.clock.now += self.host.piece_s
        self.peeks.append((self.host.clock.now, start))
        return bytes(size)


peek = Guest.memoryPeek


class Host:
    """A connection to a host with so many guests."""

    def __init__(self, clock, count, piece_s=PIECE_S, busy=()):
        self.clock, self.busy, self.asked = clock, busy, 0
        self.piece_s = piece_s
        self.guests = [Guest(self, number) for number in range(count)]

    def getAllDomainStats(self, groups, flags):  # noqa: N802
        cpu = {"vcpu.current": 1, "vcpu.0.time": int(self.clock.now * 1e9)}
        self.asked += 1
        # The name of a disk is in the definition; what was written, only QEMU tells.
        told = {} if self.asked in self.busy else {"block.0.wr.bytes": int(self.clock.now * WRITTEN_PER_S)}
        return [(guest, {**cpu, "block.count": 2, "block.1.name": "sda", **told}) for guest in self.guests]

    def domainListGetStats(self, domains, group):  # noqa: N802
        self.clock.now += CALL_S
        done = 2 if self.clock.now >= domains[0].done_at else 1
        return [(domains[0], {"dirtyrate.calc_status": done, "dirtyrate.megabytes_per_second": MIB_PER_S})]


@pytest.fixture
def measure(cluster, monkeypatch):
    clock = Clock()
    for module in (measurement, dirty_rate, memory_look, memory_sample):
        monkeypatch.setattr(module, "time", clock)
    # This clock knows one thing at a time.
    monkeypatch.setattr(memory_look, "LANES", 1)

    def run(count, *, budget_s, doubtful=(), piece_s=PIECE_S, busy=()):
        host = Host(clock, count, piece_s, busy)
        begun = clock.now
        found = measurement.measure_all(
            host,
            host.guests,
            allow_monitor=False,
            budget_s=budget_s,
            sample_memory=True,
            needs_more=lambda guest: guest.domain.number in doubtful,
        )
        return found, clock.now - begun

    return run


@pytest.mark.parametrize("budget_s", [3, 8, 20])
@pytest.mark.parametrize("count", [1, 5, 20, 100])
def test_all_guests_of_a_host_share_one_budget(measure, count, budget_s):
    found, seconds = measure(count, budget_s=budget_s)
    assert all(guest.readings and guest.refused is None for guest in found)
    # One look at the memory may be under way when the time is over, and the counters are read once more.
    assert seconds < budget_s + 0.5


def test_guests_are_measured_side_by_side(measure):
    found, dummy = measure(20, budget_s=8)
    assert {tuple(guest.domain.windows) for guest in found} == {(1, 1, 2)}


def test_memory_is_read_while_the_windows_go_by_and_again_after_them(measure):
    found, dummy = measure(20, budget_s=8)
    for guest in found:
        places = [start for dummy, start in guest.domain.peeks]
        first = list(dict.fromkeys(places))
        again = places[len(first) :]
        assert guest.sample.pages == len(first) * memory_sample.CHUNK // memory_sample.PAGE
        # The windows of 1, 1 and 2 s are shared by twenty guests.
        assert len(first) == pytest.approx(4 / 20 / PIECE_S, rel=0.2)
        assert again == first[: len(again)]
        assert len(again) >= memory_look.MIN_CHUNKS
        # The guests are started one after the other, and the window is that of the last one.
        assert max(at for at, dummy in guest.domain.peeks[: len(first)]) < guest.domain.done_at + 80 * CALL_S


def test_reading_memory_takes_little_time_beside_the_windows(measure):
    dummy, seconds = measure(20, budget_s=8)
    asking_s = 3 * 20 * 3 * CALL_S
    assert seconds < 4 + asking_s + measurement.SECOND_READING_SHARE * 8 + 0.5


def test_what_is_left_of_the_budget_goes_to_the_doubtful(measure):
    found, seconds = measure(20, budget_s=8, doubtful={3, 7})
    repeats = {guest.domain.number: len(guest.readings) for guest in found}
    assert repeats.pop(3) == repeats.pop(7) > 3
    assert set(repeats.values()) == {3}
    assert seconds < 8.5


def test_no_closer_look_is_begun_that_would_not_fit(measure):
    found, seconds = measure(100, budget_s=8, doubtful=range(100))
    assert {len(guest.readings) for guest in found} == {3}
    assert seconds < 8.5


def test_where_there_is_no_time_to_look_at_all_some_are_looked_at_properly(measure):
    found, dummy = measure(100, budget_s=8, piece_s=0.008)
    looks = [guest.sample for guest in found if guest.sample]
    assert 0 < len(looks) < 100
    assert min(sample.pages for sample in looks) >= memory_look.MIN_CHUNKS * memory_sample.CHUNK // memory_sample.PAGE


def test_one_guest_alone_has_all_its_pieces_looked_at(measure):
    (guest,), dummy = measure(1, budget_s=8)
    assert guest.sample.pages == memory_look.MOST_CHUNKS * memory_sample.CHUNK // memory_sample.PAGE


def test_a_guest_whose_memory_cannot_be_read_is_asked_once_and_holds_up_no_other(measure, monkeypatch):
    def fail(guest, start, size, flags):
        guest.peeks.append((guest.host.clock.now, start))
        raise RuntimeError("no memory for you")

    monkeypatch.setattr(Guest, "memoryPeek", lambda guest, *rest: (fail if guest.number == 3 else peek)(guest, *rest))
    found, dummy = measure(20, budget_s=8)
    assert [guest.domain.number for guest in found if guest.sample is None] == [3]
    assert len(found[3].domain.peeks) == 1
    assert found[3].readings


@pytest.mark.parametrize("busy", [(), (1, 2), (2, 3), (1, 3, 4)])
def test_libvirt_is_asked_again_for_what_it_leaves_out_of_a_busy_guest(measure, busy):
    found, _took = measure(1, budget_s=20, busy=busy)
    assert found[0].disk_write_bytes_per_s == pytest.approx(WRITTEN_PER_S, rel=1e-4)
    assert found[0].vcpu_utilisation == pytest.approx(1.0)


@pytest.mark.parametrize("busy", [range(1, 10**6), range(2, 10**6)])
def test_a_rate_that_libvirt_does_not_tell_is_unknown_and_not_0(measure, busy):
    found, took = measure(1, budget_s=20, busy=busy)
    assert found[0].disk_write_bytes_per_s is None
    assert found[0].vcpu_utilisation == pytest.approx(1.0)
    assert took < 20 + 2 * measurement.COUNTERS_S

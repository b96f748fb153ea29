# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading
import time

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.page_sampling import Reading
from ansible_collections.kvmops.cluster.plugins.module_utils.run import history
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.measure import memory_sample, working_sets

MIB = 1 << 20
#: In every window the guest dirties 24 MiB/s, ever new pages.
READINGS = [Reading(window_s, 24, 512) for window_s in (1, 1, 2)]


@pytest.fixture
def measure(cluster, monkeypatch, tmp_path):
    cluster.add_host("h1").add_guest("web1", rss_kib=500 << 10)
    asked = []

    def run(*, bandwidth_mib_s=0, sample=None):
        def measure_all(connection, domains, *, needs_more, **rest):
            (guest,) = (
                working_sets.GuestMeasurement(domain, readings=list(READINGS), sample=sample) for domain in domains
            )
            asked.append(needs_more(guest))
            return [guest]

        monkeypatch.setattr(working_sets, "measure_all", measure_all)
        request = working_sets.Request(
            "qemu:///system", "h1", str(tmp_path), None, 8, False, True, bandwidth_mib_s * MIB
        )  # fmt: skip
        (document,) = working_sets.measure(request, lambda: "2026-11-28T02:00:00Z")["working_sets"]
        return document, asked[-1]

    return run


def learned(rate):
    return {"learned": {"bandwidth_bytes_per_s": {"mean": rate, "deviation": 0.02 * rate, "seen": 3}}}


@pytest.mark.parametrize(
    ("stated_mib_s", "paths", "doubtful"),
    [
        (0, {}, False),
        (24, {}, True),
        (1000, {}, False),
        (0, {"h2": 24.0 * MIB}, True),
        (0, {"h2": 24.0 * MIB, "h3": 1000.0 * MIB}, False),
        (24, {"h3": 1000.0 * MIB}, True),
    ],
)
def test_a_verdict_is_in_doubt_over_the_way_that_a_move_will_take(measure, tmp_path, stated_mib_s, paths, doubtful):
    for host, rate in paths.items():
        history.keep_calibration(str(tmp_path), "path", host, learned(rate))
    dummy, asked = measure(bandwidth_mib_s=stated_mib_s)
    assert asked == doubtful


def sample(share):
    return memory_sample.MemorySample(64, 0.0, share, 0, None, None)


def test_a_guest_that_there_was_no_time_to_look_at_compresses_as_it_did(measure):
    assert measure()[0]["compressed_share"] is None
    assert measure(sample=sample(0.4))[0]["compressed_share"] == 0.4
    assert measure()[0]["compressed_share"] == 0.4
    assert measure(sample=sample(0.6))[0]["compressed_share"] == pytest.approx(0.5)


def test_guests_are_compared_with_their_newest_capsules_where_that_is_asked_for(cluster, monkeypatch, tmp_path):
    host = cluster.add_host("h1")
    for name in ("web1", "web2", "web3"):
        host.add_guest(name, rss_kib=500 << 10)
    monkeypatch.setattr(working_sets, "measure_all", lambda *_args, **_more: [])
    monkeypatch.setattr(
        working_sets.capsule_changes,
        "newest",
        lambda store, uuid: None if uuid == names["web2"] else (store.directory, uuid),
    )
    monkeypatch.setattr(
        working_sets.capsule_changes, "look", lambda domain, _store, capsule, seconds: (domain.name(), capsule, seconds)
    )
    with working_sets.virt.connect("qemu:///system", read_only=True) as connection:
        names = {domain.name(): domain.UUIDString() for domain in connection.listAllDomains(0)}

    def changes(capsule_dir):
        request = working_sets.Request("qemu:///system", "h1", str(tmp_path), None, 5, False, True, 0, capsule_dir)
        return working_sets.measure(request, lambda: "2026-11-28T02:00:00Z")["changes"]

    # Both together take their share of the budget.
    assert changes("/store") == [
        ("web1", ("/store", names["web1"]), pytest.approx(1.5)),
        ("web3", ("/store", names["web3"]), pytest.approx(1.5)),
    ]
    assert changes(None) == []


def test_a_guest_that_cannot_be_compared_costs_no_measurement(cluster, monkeypatch, tmp_path):
    cluster.add_host("h1").add_guest("web1", rss_kib=500 << 10)
    monkeypatch.setattr(working_sets, "measure_all", lambda *_args, **_more: [])
    monkeypatch.setattr(working_sets.capsule_changes, "newest", lambda _store, uuid: uuid)
    # With the time for the look itself, a tenth of a second.
    monkeypatch.setattr(working_sets, "ANSWER_TIMEOUT_S", 0.1 - 5 * working_sets.CAPSULES_SHARE)
    released = threading.Event()
    monkeypatch.setattr(working_sets.capsule_changes, "look", lambda *_all: released.wait(30))
    request = working_sets.Request("qemu:///system", "h1", str(tmp_path), None, 5, False, True, 0, "/store")
    began = time.monotonic()
    assert working_sets.measure(request, lambda: "2026-11-28T02:00:00Z")["changes"] == []
    assert time.monotonic() - began < 20
    released.set()

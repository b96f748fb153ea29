# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How moves of guests with disks are judged."""

from __future__ import annotations

from bench.benches import storage
from bench.drains.drain_record import MoveRecord

MIB = 1024 * 1024


def moved(seconds=10.0, sent=100 * MIB, forecast=None):
    return MoveRecord(
        guest="small",
        began_ns=5_000_000_000,
        ended_ns=int((5 + seconds) * 1e9),
        outcome="moved",
        strategy="pre-copy+disks",
        bytes=sent,
        downtime_ms=100,
        rounds=2,
        error=None,
        forecast=forecast,
    )


def told(value, low=None):
    return {"total_s": {"value": value, "low": low, "high": None}, "bytes": {"value": 90 * MIB}}


def test_a_forecast_within_a_fifth_and_bytes_within_three_percent_are_right():
    rows = [
        storage.row("local", moved(forecast=told(8.0)), 100 * MIB, 30.0),
        storage.row("local", moved(forecast=told(12.1)), 97 * MIB, 9.0),
        storage.row("iscsi", moved(forecast=told(None, 11.0)), 104 * MIB, 11.0),
    ]
    assert [row["error"] for row in rows] == [-0.2, 0.21, 0.1]
    found = storage.document(rows, [])
    assert (found["moves"], found["right_time"], found["reckoned_right_time"], found["right_bytes"]) == (3, 2, 2, 1)
    assert "2 of 3 forecasts of time were within 20 %;" in storage.lines(found)
    assert "1 of 2 of the moves that copy disks." in storage.lines(found)
    assert "1 of 3 reports of bytes were within 3 % of the wire." in storage.lines(found)


def test_without_a_forecast_or_a_report_nothing_is_right():
    found = storage.document([storage.row("nbd", moved(sent=None), 100 * MIB, 9.0)], [])
    assert (found["right_time"], found["right_bytes"], found["p50_error"]) == (0, 0, None)
    assert "no forecast" in storage.line(found["rows"][0])


def test_beside_virsh_stands_the_mean_of_our_moves():
    rows = [storage.row("local", moved(sent=sent * MIB), 100 * MIB, 9.0) for sent in (90, 110)]
    found = storage.document(rows, [{"guest": "small", "seconds": 20.0, "bytes": 200 * MIB}])
    assert found["virsh"][0]["ratio"] == 0.5
    assert storage.lines(found)[-1] == (
        "small: virsh --copy-storage-all sent 200.0 MiB in 20.0 s; ours is 0.50 of these bytes."
    )

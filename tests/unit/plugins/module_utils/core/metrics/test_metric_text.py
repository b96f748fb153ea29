# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.metrics.metric_table import METRICS
from ansible_collections.kvmops.cluster.plugins.module_utils.core.metrics.metric_text import (
    MOST_OF_LABEL,
    Sample,
    text_of,
)

UNITS = ("_bytes", "_seconds", "_ratio", "_info")
#: What counts or tells a state has no unit.
PLAIN = {
    "kvmops_host_guests",
    "kvmops_host_maintenance_state",
    "kvmops_host_lease_held",
    "kvmops_host_run_at_work",
    "kvmops_host_drain_unknown_guests",
    "kvmops_guest_cold_bytes_per_second",
    "kvmops_guest_dirty_bytes_per_second",
    "kvmops_guest_movable",
    "kvmops_forecast_compared_moves",
    "kvmops_path_bandwidth_bytes_per_second",
    "kvmops_plan_fits_window",
}


def memory_of(name, value=1, uuid="u"):
    return Sample("kvmops_guest_memory_bytes", value, {"guest": name, "uuid": uuid})


def series(text):
    """Values by the names of guests, read back as Prometheus reads them."""
    unescaped = {r"\\": "\\", r"\"": '"', r"\n": "\n"}
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(r'kvmops_guest_memory_bytes\{guest="((?:[^"\\]|\\.)*)",uuid="u"\} (\S+)', line)
        if match:
            found[re.sub(r"\\.", lambda one: unescaped[one.group()], match.group(1))] = match.group(2)
    return found


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_are_as_prometheus_wants_them(metric):
    assert re.fullmatch(r"kvmops(_[a-z]+)+", metric.name)
    assert all(re.fullmatch(r"[a-z]+", label) for label in metric.labels)
    assert metric.name in PLAIN or metric.name.endswith(UNITS)
    assert metric.help.endswith(".")
    assert metric.help.isprintable()
    assert "\\" not in metric.help


def test_no_two_metrics_have_one_name():
    assert len({metric.name for metric in METRICS}) == len(METRICS)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ('a"} 1\nkvmops_host_guests 99', 'a"} 1 kvmops_host_guests 99'),
        ("back\\slash\\", "back\\slash\\"),
        ("größe-データ-🐧", "größe-データ-🐧"),
        ("\x1b[2Jweb\u202e", "\N{REPLACEMENT CHARACTER}[2Jweb\N{REPLACEMENT CHARACTER}"),
        ("half \ud83d", "half \N{REPLACEMENT CHARACTER}"),
        ("", ""),
        ("n" * 9000, "n" * (MOST_OF_LABEL - 1) + "…"),
        ("# HELP x y", "# HELP x y"),
        ("two\r\nlines", "two lines"),
    ],
)
def test_a_name_is_one_label_whatever_it_is(name, shown):
    text = text_of([memory_of(name, 512)])

    assert text.encode()
    assert len(text.splitlines()) == 3
    assert series(text) == {shown: "512"}


def test_the_second_of_two_equal_series_is_left_out():
    """With both, an exporter would leave out all of the file."""
    text = text_of([memory_of("a\x07", 1), memory_of("a\x08", 2)])

    assert series(text) == {"a\N{REPLACEMENT CHARACTER}": "1"}


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_left_out(value):
    assert text_of([memory_of("a", value)]) == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "1"),
        (0, "0"),
        (2**53 + 1, str(2**53 + 1)),
        (0.081, "0.081"),
        (4.0, "4"),
        (1e300, "1e+300"),
        (-1.5, "-1.5"),
    ],
)
def test_values(value, shown):
    assert series(text_of([memory_of("a", value)])) == {"a": shown}


def test_a_metric_is_told_with_all_its_labels_and_no_others():
    with pytest.raises(ValueError, match="kvmops_guest_memory_bytes has the labels guest, uuid"):
        text_of([Sample("kvmops_guest_memory_bytes", 1, {"guest": "a"})])
    with pytest.raises(KeyError):
        text_of([Sample("kvmops_unheard_of", 1)])


def test_series_of_one_metric_stand_together():
    """Otherwise Prometheus takes the second group for another metric of that name."""
    text = text_of([memory_of("a"), Sample("kvmops_host_guests", 2), memory_of("b")])
    names = [line.partition("{")[0].split()[0] for line in text.splitlines() if not line.startswith("#")]

    assert names == ["kvmops_host_guests", "kvmops_guest_memory_bytes", "kvmops_guest_memory_bytes"]

# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The metrics that a host writes for Prometheus: names, labels, meanings. docs/guides/metrics.md shows this table.

Names end in their unit, as Prometheus wants it. All are gauges: a file that is written now and then counts nothing.
"""

from __future__ import annotations

import typing as t


class Metric(t.NamedTuple):
    """One metric.

    Attributes:
        name: as Prometheus stores it.
        labels: names of its labels.
        help: what it means, as one sentence.
    """

    name: str
    labels: tuple[str, ...]
    help: str


GUEST = ("guest", "uuid")
#: What is forecast of a move, and the label by which its error is told.
FIGURES = {"total_s": "duration", "bytes": "bytes", "downtime_ms": "downtime"}
#: States of a host, each with a series that is 0 or 1.
STATES = ("active", "cordoned", "maintenance")

METRICS = (
    Metric("kvmops_written_timestamp_seconds", (), "When this file was written."),
    Metric("kvmops_host_info", ("host", "libvirt", "qemu", "kernel"), "1; the host's name in the inventory, versions."),
    Metric("kvmops_host_memory_bytes", (), "Memory of the host."),
    Metric("kvmops_host_memory_available_bytes", (), "Memory of the host that nobody uses."),
    Metric("kvmops_host_guests", (), "Guests that are not shut off."),
    Metric("kvmops_host_guest_memory_bytes", (), "Memory of these guests in all, whether they use it or not."),
    Metric("kvmops_host_maintenance_state", ("state",), "1 for the state that the host is in, 0 for the others."),
    Metric("kvmops_host_maintenance_since_timestamp_seconds", (), "Since when the host is not open."),
    Metric("kvmops_host_lease_held", (), "1: a run has the host, or its lease cannot be read; 0: the host is free."),
    Metric("kvmops_host_lease_info", ("owner", "run"), "1; who has the host."),
    Metric("kvmops_host_lease_expires_timestamp_seconds", (), "When the lease of the host ends by itself."),
    Metric("kvmops_host_run_at_work", (), "1: a run moves guests away from this host now. Nothing is measured then."),
    Metric(
        "kvmops_host_drain_forecast_seconds",
        (),
        "Forecast durations of the moves of all guests that can leave, one after the other.",
    ),
    Metric("kvmops_host_drain_unknown_guests", (), "Guests that can leave, and of whose move no duration is forecast."),
    Metric("kvmops_host_drain_window_seconds", (), "How long a drain of this host may take, as stated."),
    Metric("kvmops_guest_info", (*GUEST, "state"), "1; what the guest does."),
    Metric("kvmops_guest_memory_bytes", GUEST, "Memory of the guest."),
    Metric("kvmops_guest_touched_bytes", GUEST, "Touched memory: what the first pass of a migration sends."),
    Metric("kvmops_guest_dirty_bytes_per_second", GUEST, "Different bytes that it dirties, over the longest window."),
    Metric("kvmops_guest_hot_bytes", GUEST, "Hot set: memory that the guest writes again and again."),
    Metric("kvmops_guest_cold_bytes_per_second", GUEST, "Writes to ever new memory, beyond the hot set."),
    Metric("kvmops_guest_measured_timestamp_seconds", GUEST, "When its working set was measured last."),
    Metric(
        "kvmops_guest_movable",
        GUEST,
        "1: the guest can leave within its intent, as far as this host knows; 0: something keeps it.",
    ),
    Metric("kvmops_guest_refusal_info", (*GUEST, "code"), "1; why the guest cannot leave, by the code of the refusal."),
    Metric("kvmops_guest_accepted_downtime_seconds", GUEST, "Longest downtime that its intent accepts."),
    Metric(
        "kvmops_guest_forecast_info",
        (*GUEST, "destination", "method", "verdict"),
        "1; the best destination known, and the method. No destination: its link alone is known, as stated.",
    ),
    Metric("kvmops_guest_forecast_duration_seconds", GUEST, "Forecast duration of its move to the best destination."),
    Metric("kvmops_guest_forecast_downtime_seconds", GUEST, "Forecast downtime of that move."),
    Metric("kvmops_guest_forecast_bytes", GUEST, "Forecast bytes of that move."),
    Metric("kvmops_guest_forecast_timestamp_seconds", GUEST, "When what that rests on was measured or planned."),
    Metric(
        "kvmops_guest_last_move_info",
        (*GUEST, "destination", "outcome", "method"),
        "1; the last move of the guest away from this host, and what became of it.",
    ),
    Metric("kvmops_guest_last_move_timestamp_seconds", GUEST, "When that move ended."),
    Metric("kvmops_guest_last_move_duration_seconds", GUEST, "How long that move took."),
    Metric("kvmops_guest_last_move_downtime_seconds", GUEST, "Downtime of that move."),
    Metric(
        "kvmops_forecast_error_median_ratio",
        ("figure",),
        "Typical error of the forecasts of the last moves from here: forecast over actual, less 1, without its sign.",
    ),
    Metric("kvmops_forecast_error_worst_ratio", ("figure",), "Worst error of these forecasts."),
    Metric("kvmops_forecast_compared_moves", ("figure",), "How many moves these errors are from."),
    Metric("kvmops_path_bandwidth_bytes_per_second", ("destination",), "Bandwidth that moves to a host have shown."),
    Metric("kvmops_plan_info", ("plan", "goal"), "1; the last plan that this host was told of."),
    Metric("kvmops_plan_created_timestamp_seconds", (), "When that plan was made."),
    Metric("kvmops_plan_expected_seconds", (), "How long that plan takes, as it expects."),
    Metric("kvmops_plan_window_seconds", (), "How long that plan may take."),
    Metric("kvmops_plan_fits_window", (), "1: that plan fits its window; 0: it does not."),
    Metric("kvmops_plan_remark_info", ("code",), "1; a remark of that plan, such as n_plus_one."),
)
BY_NAME = {metric.name: metric for metric in METRICS}

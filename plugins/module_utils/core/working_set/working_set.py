# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The document ``kvmops.working_set/1``: made from readings, and turned back into a curve."""

from __future__ import annotations

import dataclasses
import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB, human_bytes, human_seconds
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set import curve_fit
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.curve import Curve, curve
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.monotone_curve import monotone_concave
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.page_sampling import (
    MeasurementError,
    Point,
    Reading,
    points,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.touched import Touched

WORKING_SET = "kvmops.working_set/1"
METHODS = ("libvirt", "qmp")
#: Less than this in a minute is what any idle guest does.
IDLE_BYTES = 4 * MIB
IDLE_S = 10.0
#: So many standard deviations, and such a factor, make a guest unlike usual: neither noise nor a trifle.
UNUSUAL_DEVIATIONS = 3.0
UNUSUAL_FACTOR = 1.5
UNUSUAL_BYTES = 4 * MIB
#: A usual needs at least so many looks.
USUAL_MEASUREMENTS = 3


def working_set(  # noqa: PLR0913 (one for each thing that is measured, by name)
    *,
    guest: t.Mapping[str, str],
    taken_at: str,
    method: str,
    samples_per_gib: int,
    memory_bytes: int,
    touched: Touched,
    readings: t.Sequence[Reading],
    vcpu_utilisation: float | None = None,
    compressed_share: float | None = None,
    hot_compressed_share: float | None = None,
    sparse: float | None = None,
    disk_write_bytes_per_s: float | None = None,
    history: t.Sequence[t.Mapping[str, t.Any]] = (),
) -> dict[str, t.Any]:
    """Make the document from what was read.

    Args:
        guest: its name and UUID.
        taken_at: ISO 8601 in UTC.
        method: C(libvirt) (whole seconds, 512 samples a GiB) or C(qmp) (QEMU's own call).
        samples_per_gib: of the finest readings.
        memory_bytes: size of the guest.
        touched: what the first pass will send.
        readings: all windows and repeats, in any order; none when nothing could be measured.
        vcpu_utilisation: share of its CPU time that the guest uses, 0 to 1.
        compressed_share: bytes after compression over bytes before.
        hot_compressed_share: the same of the pages that it rewrites.
        sparse: share of a dirtied page that changes.
        disk_write_bytes_per_s: to all its disks.
        history: earlier documents of this guest.
    """
    _check(method, touched, memory_bytes)
    shares = {
        "vcpu_utilisation": vcpu_utilisation,
        "compressed_share": compressed_share,
        "hot_compressed_share": hot_compressed_share,
        "sparse": sparse,
    }
    for name, share in shares.items():
        _check_share(name, share)
    measured = points(readings, memory_bytes)
    fitted = curve_fit.fit(measured)
    document: dict[str, t.Any] = {
        "schema": WORKING_SET,
        "guest": {"name": guest["name"], "uuid": guest["uuid"]},
        "taken_at": taken_at,
        "method": method,
        "samples_per_gib": samples_per_gib,
        "memory_bytes": memory_bytes,
        "touched_bytes": touched.bytes,
        "touched_how": touched.how,
        "touched_error": round(touched.error, 4),
        "points": _points(measured),
        "fit": None if fitted is None else _fit(fitted),
        **shares,
        "disk_write_bytes_per_s": disk_write_bytes_per_s,
        "unusual": None,
        "sentence": "",
    }
    document["sentence"] = sentence(document)
    document["unusual"] = unusual(document, history)
    return document


def unmeasured(
    *, guest: t.Mapping[str, str], taken_at: str, memory_bytes: int, touched: Touched, **known: t.Any
) -> dict[str, t.Any]:
    """The document of a guest that could not be measured: everything is possible, so its forecasts are marginal."""
    return working_set(
        guest=guest,
        taken_at=taken_at,
        method="libvirt",
        samples_per_gib=0,
        memory_bytes=memory_bytes,
        touched=touched,
        readings=(),
        **known,
    )


def curve_of(document: t.Mapping[str, t.Any]) -> Curve:
    """W(t) of a document."""
    measured = [
        Point(one["window_s"], one["dirtied_bytes"], one["sd_bytes"], one["repeats"]) for one in document["points"]
    ]
    return curve(measured, document["touched_bytes"], _fit_of(document["fit"]))


def sentence(document: t.Mapping[str, t.Any]) -> str:
    """What an operator wants to know of a working set, in one line: ``rewrites 64 MiB within 0.8 s, 2 MiB/s
    beyond``.
    """
    found = curve_of(document)
    if not found.windows:
        return "not measured"
    if found.value(IDLE_S) < IDLE_BYTES:
        return f"nearly idle: {human_bytes(_round(found.value(IDLE_S)))} in {IDLE_S:.0f} s"
    fitted = found.fit
    if fitted is None or fitted.hot_bytes < MIB:
        longest = found.windows[-1]
        rate = _round(found.value(longest) / longest)
        return f"writes {human_bytes(rate)}/s to new pages"
    # An exponential hot set is nine tenths dirty after 2.3 fill times.
    within = fitted.fill_s * (1.0 if fitted.shape == "linear" else 2.3)
    beyond = f", {human_bytes(_round(fitted.cold_bytes_per_s))}/s beyond" if fitted.cold_bytes_per_s >= MIB / 10 else ""
    unsure = "about " if fitted.fill_sd_s > 0.3 * fitted.fill_s else ""
    return f"rewrites {human_bytes(_round(fitted.hot_bytes))} within {unsure}{human_seconds(within)}{beyond}"


def unusual(now: t.Mapping[str, t.Any], history: t.Sequence[t.Mapping[str, t.Any]]) -> str | None:
    """Say so when a guest is not as it usually is, in the window where it differs most; None when it is as ever.

    Its usual is the median of earlier looks. A difference counts when it is beyond what the errors of both and the
    guest's own changes (median deviation) explain, and is no trifle.
    """
    earlier_curves = [curve_of(document) for document in history if document["points"]]
    present = curve_of(now)
    if len(earlier_curves) < USUAL_MEASUREMENTS:
        return None
    worst: tuple[float, str] | None = None
    for window_s, sd in zip(present.windows, present.sds):
        earlier = sorted(one.value(window_s) for one in earlier_curves)
        usual = _median(earlier)
        wander = 1.4826 * _median(sorted(abs(value - usual) for value in earlier))
        value = present.value(window_s)
        error = math.sqrt(sd**2 + wander**2 + sd**2 / len(earlier_curves))
        high, low = max(value, usual), min(value, usual)
        if high - low < max(UNUSUAL_BYTES, UNUSUAL_DEVIATIONS * error) or high < UNUSUAL_FACTOR * low:
            continue
        deviations = (high - low) / max(error, 1.0)
        more = "more" if value > usual else "less"
        text = (
            f"dirties {more} than usual: {human_bytes(_round(value))} in {human_seconds(window_s)}, where"
            f" {human_bytes(_round(usual))} is the median of {len(earlier_curves)} earlier looks"
        )
        if worst is None or deviations > worst[0]:
            worst = (deviations, text)
    return worst[1] if worst else None


def _points(measured: t.Sequence[Point]) -> list[dict[str, t.Any]]:
    """Points as plain data, made into a possible curve."""
    windows = [point.window_s for point in measured]
    values = monotone_concave(
        windows, [point.dirtied_bytes for point in measured], [point.sd_bytes for point in measured]
    )
    return [
        {
            "window_s": point.window_s,
            "dirtied_bytes": round(value),
            "sd_bytes": round(point.sd_bytes),
            "repeats": point.repeats,
        }
        for point, value in zip(measured, values)
    ]


def _fit(fitted: curve_fit.Fit) -> dict[str, t.Any]:
    return {
        "hot_bytes": round(fitted.hot_bytes),
        "hot_sd_bytes": round(fitted.hot_sd_bytes),
        "fill_s": round(fitted.fill_s, 4),
        "fill_sd_s": round(fitted.fill_sd_s, 4),
        "cold_bytes_per_s": round(fitted.cold_bytes_per_s),
        "cold_sd_bytes_per_s": round(fitted.cold_sd_bytes_per_s),
        "base_bytes": round(fitted.base_bytes),
        "shape": fitted.shape,
        "misfit": round(fitted.misfit, 3),
    }


def _fit_of(plain: t.Mapping[str, t.Any] | None) -> curve_fit.Fit | None:
    if plain is None:
        return None
    # A later version may know more of it.
    known = [field.name for field in dataclasses.fields(curve_fit.Fit)]
    return curve_fit.Fit(**{name: plain[name] for name in known})


def _check(method: str, touched: Touched, memory_bytes: int) -> None:
    if method not in METHODS:
        raise MeasurementError(f"the method must be {' or '.join(METHODS)}, not {method!r}")
    if not (0 <= touched.bytes <= memory_bytes):
        raise MeasurementError(f"{touched.bytes} bytes touched in a guest of {memory_bytes} bytes")


def _check_share(name: str, value: float | None) -> None:
    # A vCPU under emulation, or a page that compression makes larger, can be a little above 1.
    if value is not None and not (0 <= value <= 1.5):
        raise MeasurementError(f"{name} is a share between 0 and 1, not {value}")


def _median(ordered: t.Sequence[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _round(count: float) -> float:
    """To about two figures, as sure as such a figure is: whole MiB above 10 MiB."""
    return round(count / MIB) * MIB if count >= 10 * MIB else round(count / MIB, 1) * MIB

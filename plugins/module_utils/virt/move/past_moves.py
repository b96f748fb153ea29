# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what this host knows of a guest and of a path from past moves, and what a move adds.

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.observation import Observation
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast import calibration
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.plan_forecasts import stated_bytes_per_s
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Step
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.appraisal import Appraisal, Knowledge
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import Decision
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.working_set import WORKING_SET
from ansible_collections.kvmops.cluster.plugins.module_utils.run import history
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.ending import MigrationEnding
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.settings import Settings

#: A move that compresses and sends at so much of the link's rate was held up by the link. To believe only what is
#: faster than was thought would let the rate that is learned grow (measured: 0.82 to 0.98 of a link's rate by zstd,
#: where plain pre-copy had 0.91 to 0.98).
NEAR_LINK = 0.8
#: Methods whose first round sends each touched page as it is.
SENDS_PAGES = ("pre-copy", "raise-downtime", "xbzrle", "throttle", "post-copy", "suspend")


def load(settings: Settings, step: Step, *, freed_bytes: int = 0) -> Knowledge:
    """What is known for a step before it begins. Any part of it may be missing.

    Args:
        freed_bytes: of the guest's memory, freed since it was measured.
    """
    uuid, target = step["guest"]["uuid"], step["destination"]
    measured = [one for one in history.measurements(settings.state_dir, uuid) if one.get("schema") == WORKING_SET]
    return Knowledge(
        working_set=_less(measured[-1], freed_bytes) if measured else None,
        path=history.calibration(settings.state_dir, "path", target),
        guest=history.calibration(settings.state_dir, "guest", uuid),
        stated_bytes_per_s=stated_bytes_per_s(settings.destinations, settings.source.host, target),
        tuned=settings.tune_network,
        at_once=max(settings.at_once, _planned_at_once(step)),
        other_paths=tuple(history.calibrations(settings.state_dir, "path").values()),
    )


def _planned_at_once(step: Step) -> int:
    """How many moves share the path of a step, by the plan. Some of them may come from other hosts."""
    return int((step.get("forecast") or {}).get("at_once") or 1)


def _less(working_set: t.Mapping[str, t.Any], freed_bytes: int) -> t.Mapping[str, t.Any]:
    if not freed_bytes:
        return working_set
    touched = working_set["touched_bytes"]
    if working_set["touched_how"] == "look":
        # It counted pages that hold something. Nobody knows how many of them were freed.
        return {**working_set, "touched_bytes": min(touched, max(0, working_set["memory_bytes"] - freed_bytes))}
    # The figure of the balloon leaves out what the guest does not use.
    spared = 0 if working_set["touched_how"] == "balloon" else freed_bytes
    return {**working_set, "touched_bytes": max(0, touched - spared)}


def calibrate(
    settings: Settings, step: Step, appraised: Appraisal, decision: Decision, ending: MigrationEnding
) -> None:
    """Compare a finished move with its forecast, and keep what that teaches.

    Of a path that nobody knew, only the rate is kept.
    """
    rate = ending.observation.bytes_per_s
    link = _whole(appraised) or calibration.link_of(None, rate)
    if link is None:
        return
    # Nobody here sees what other hosts send.
    shared_link = ending.shared_link or _planned_at_once(step) > settings.at_once
    uuid, target = step["guest"]["uuid"], step["destination"]
    path, guest = calibration.learn(
        history.calibration(settings.state_dir, "path", target),
        history.calibration(settings.state_dir, "guest", uuid),
        appraised.choice,
        link,
        _actual(step, appraised, decision, ending, shared_link=shared_link),
        touched_how=appraised.working_set["touched_how"],
    )
    # A host whose disk is full moves its guests all the same. Its forecasts are less exact.
    with contextlib.suppress(OSError):
        history.keep_calibration(settings.state_dir, "path", target, path)
        history.keep_calibration(settings.state_dir, "guest", uuid, guest)


def calibrate_set_up(settings: Settings, step: Step, appraised: Appraisal, observation: Observation) -> None:
    """Keep how long the set-up of a move under way took, where nobody knew.

    This does not wait for the end of the move: the next guest is forecast before that.
    """
    link, target = appraised.link, step["destination"]
    before = history.calibration(settings.state_dir, "path", target)
    first_byte_s = observation.first_byte_s
    if link is None or first_byte_s is None or calibration.knows(before, "before_s"):
        return
    path, dummy = calibration.learn(before, None, appraised.choice, link, {"first_byte_s": first_byte_s})
    with contextlib.suppress(OSError):
        history.keep_calibration(settings.state_dir, "path", target, path)


def _whole(appraised: Appraisal) -> Link | None:
    """The whole link, where the forecast counted with a share of it."""
    return appraised.link and appraised.link.scaled(appraised.choice["at_once"])


def _actual(
    step: Step, appraised: Appraisal, decision: Decision, ending: MigrationEnding, *, shared_link: bool
) -> dict[str, t.Any]:
    """The figures of a move that say something about the path or the guest, and not about the method."""
    observation, statistics = ending.observation, ending.statistics
    intent = step["intent"]
    capped = bool(intent.get("bandwidth_mib_s") or intent.get("bandwidth_floor_mib_s"))
    whole_pages = decision.method in SENDS_PAGES and not decision.parameters.get("migrate_disks")
    # A share of the link shows nothing of the whole link, and neither does a forecast for a share.
    shared = shared_link or appraised.choice["at_once"] > 1
    foretold = not (ending.postcopy or ending.suspended or capped or shared)
    # A connection with a limited send buffer shows nothing of the send buffer of other connections.
    plain = foretold and decision.method == "pre-copy" and appraised.unsent_limit is None
    touched = appraised.working_set["touched_bytes"]
    return {
        "bytes_per_s": None if capped or shared_link else _rate_of_link(appraised, decision, observation.bytes_per_s),
        "first_byte_s": observation.first_byte_s,
        "after_s": ending.after_s,
        "downtime_ms": ending.downtime_ms if foretold else None,
        "last_bytes": observation.last_bytes if plain else None,
        "first_pass_bytes": observation.first_pass_bytes if whole_pages else None,
        "forecast_first_pass_bytes": appraised.guest_factor * touched if whole_pages else None,
        "compressed_share": _compressed_share(statistics) if decision.method == "parallel-zstd" else None,
        "page_bytes": statistics.get("memory_normal_bytes") if decision.method == "pre-copy" else None,
        "bytes": statistics.get("memory_processed") if decision.method == "pre-copy" else None,
    }


def _compressed_share(statistics: t.Mapping[str, t.Any]) -> float | None:
    pages = statistics.get("memory_normal_bytes")
    sent = statistics.get("memory_processed")
    return sent / pages if sent and pages else None


def _rate_of_link(appraised: Appraisal, decision: Decision, seen: float | None) -> float | None:
    """The rate that was seen, unless the CPU that compresses may have been what limited it."""
    compresses = decision.method in ("parallel-zstd", "xbzrle")
    link = _whole(appraised)
    if seen is None or link is None or not compresses:
        return seen
    return seen if seen >= NEAR_LINK * link.bandwidth_bytes_per_s else None

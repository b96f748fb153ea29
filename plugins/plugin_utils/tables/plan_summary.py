# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: sentences about a plan as a whole: what it does, how long it takes, who stays.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, human_seconds, listed
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import forecast_text
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.phrases import counted
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import clean, short, table, wrapped

Plan = t.Mapping[str, t.Any]

#: A plan this little above what no order can beat is as fast as can be.
AS_GOOD_AS_BEST = 0.01
NAMES_TOLD = 8
WAVES = ["WAVE", "HOSTS", "MOVES", "ABOUT", "GUESTS GO TO"]


def clock(seconds: float) -> str:
    """A time since the start of a plan.

    >>> clock(4.4), clock(187), clock(7265)
    ('0:04', '3:07', '2:01:05')
    """
    whole = round(seconds)
    minutes = f"{whole // 60 % 60}" if whole < 3600 else f"{whole // 3600}:{whole // 60 % 60:02d}"
    return f"{minutes}:{whole % 60:02d}"


def headline(plan: Plan) -> str:
    """The whole plan in one line."""
    what = _what(plan)
    expected = plan["expected"]
    # What is expected is the time of the steps, which are the first wave's; what all waves take is said below them.
    if not plan["steps"] or plan.get("waves") or not _is_timed(plan):
        return what
    about = "about " if _is_unsure(plan) else ""
    told = [f"{what} in {about}{human_seconds(expected['seconds'])}"]
    if expected.get("verdict"):
        fits = "fits" if expected["verdict"] == "fits" else "does NOT fit"
        told.append(f"{fits} into {human_seconds(expected['window_s'])}")
    return ", which ".join(told)


def notes(plan: Plan) -> list[str]:
    """What is to be known of the plan as a whole, as lines of a readable width."""
    lines = [line for fact in facts(plan) for line in wrapped(fact, "", "  ")]
    for remark in plan.get("remarks") or ():
        lines += wrapped(remark["reason"], "Note: ", "  ")
        if remark.get("remedy"):
            lines += wrapped(remark["remedy"], "  -> ", "     ")
    return lines


def facts(plan: Plan) -> list[str]:
    """How even it makes the cluster, how long it takes, and whether that fits, each in a sentence or two."""
    return [*_score(plan), *_time(plan), *_window(plan)]


def waves(plan: Plan) -> list[str]:
    """The waves of a rolling upgrade, one row each."""
    rows = wave_rows(plan)
    if not rows:
        return []
    lines = table(WAVES, rows, right=["WAVE", "MOVES", "ABOUT"])
    figures = plan["figures"]
    total = (
        f"All moves together take about {human_seconds(figures['seconds'])}, without upgrades and reboots; "
        f"{figures['moves_per_guest']:.2f} moves a guest."
    )
    first = f"Before each wave a new plan is made. The first one, {rows[0][1]}:"
    return [*lines, "", total, *([first] if plan["steps"] else [])]


def wave_rows(plan: Plan) -> list[list[str]]:
    """Number, hosts, moves, duration and destinations of each wave: cells under ``WAVES``."""
    return [
        [
            str(number),
            clean(", ".join(wave["hosts"])),
            str(len(wave["moves"])),
            human_seconds(wave["seconds"]),
            clean(listed(sorted({move["destination"] for move in wave["moves"]}), NAMES_TOLD) or "-"),
        ]
        for number, wave in enumerate(plan.get("waves") or (), 1)
    ]


def _what(plan: Plan) -> str:
    kind, hosts = plan["goal"]["kind"], [clean(host) for host in plan["goal"]["hosts"]]
    if kind == "upgrade" and plan.get("waves"):
        moves = (plan.get("figures") or {}).get("moves", 0)
        waves_ = counted(len(plan.get("waves") or ()), "wave", "waves")
        return (
            f"{counted(len(hosts), 'host is', 'hosts are')} emptied in {waves_} with {counted(moves, 'move', 'moves')}"
        )
    steps = _leaving(plan)
    if kind == "rebalance":
        over = f"rebalance {listed(hosts)}" if hosts else "rebalance the cluster"
        if not plan["steps"]:
            return "nothing has to move"
        return f"{_guests(steps)} {'moves' if len(steps) == 1 else 'move'} to {over}"
    verb = "come home to" if kind == "restore" else "leave"
    if not plan["steps"]:
        return f"no guest {'can' if plan['stays'] else 'has to'} {verb} {listed(hosts)}"
    if len(steps) == 1:
        verb = "comes home to" if kind == "restore" else "leaves"
    others = len({step["guest"]["uuid"] for step in plan["steps"]}) - len(steps)
    more = f"; {others} elsewhere {'makes' if others == 1 else 'make'} room" if others else ""
    return f"{_guests(steps)} {verb} {listed(hosts)}{more}"


def _leaving(plan: Plan) -> list[t.Mapping[str, t.Any]]:
    """One step of each guest that the goal concerns: not of those that make room, nor again of those that wait."""
    kind, hosts = plan["goal"]["kind"], plan["goal"]["hosts"]
    steps = plan["steps"]
    # The plan of one wave of an upgrade empties hosts as a drain does.
    if kind in ("drain", "evacuate", "upgrade"):
        steps = [step for step in steps if step["source"] in hosts]
    return list({step["guest"]["uuid"]: step for step in steps}.values())


def _guests(steps: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    return f"{counted(len(steps), 'guest', 'guests')} ({human_bytes(sum(step['memory_bytes'] for step in steps))})"


def _score(plan: Plan) -> list[str]:
    figures = plan.get("figures") or {}
    before, after = figures.get("score_before"), figures.get("score_after")
    if before is None or after is None or not plan["steps"]:
        return []
    share = f" ({100 * (before - after) / before:.0f} % more even)" if before > 0 else ""
    return [f"Score: {before:.3f} now, {after:.3f} afterwards{share}; 0 is perfectly even."]


def _time(plan: Plan) -> list[str]:
    expected = plan["expected"]
    if not plan["steps"] or not _is_timed(plan):
        return []
    seconds, sent = human_seconds(expected["seconds"]), expected.get("bytes")
    guessed = [short(clean(name)) for name in expected.get("guessed") or ()]
    if guessed:
        first = f"Expected: about {seconds} in all, but the times of {listed(guessed, NAMES_TOLD)} "
        first += "are estimated from memory and link"
    else:
        first = f"Expected: {seconds}{'' if sent is None else f' and {human_bytes(sent)}'} in all"
        first += ", if what is not sure goes well" if _is_unsure(plan) else ""
    return [f"{first}. {_bound(expected)}".rstrip()]


def _bound(expected: t.Mapping[str, t.Any]) -> str:
    """How far the plan is from what no order could beat. A plan of one step needs no such thing."""
    if expected.get("bound_s") is None or len(expected.get("steps") or ()) < 2:
        return ""
    why = clean(expected["bound_reason"])
    if expected["above_bound"] <= AS_GOOD_AS_BEST:
        return f"No order is faster: {why}."
    return f"At the very least, {why}; this is {100 * expected['above_bound']:.0f} % above that."


def _window(plan: Plan) -> list[str]:
    expected = plan["expected"]
    verdict = expected.get("verdict")
    if not verdict or not plan["steps"]:
        return []
    word = {"fits": "Fits", "fits_without": f"Does NOT fit with {_left_out(expected)}", "does_not_fit": "Does NOT fit"}
    return [f"{word[verdict]}: {expected['reason']}."]


def _left_out(expected: t.Mapping[str, t.Any]) -> str:
    return listed([short(clean(name)) for name in expected["without"]], NAMES_TOLD)


def _is_timed(plan: Plan) -> bool:
    """Is anything known of time: forecasts, or a window that it must be held against?"""
    return plan["expected"].get("seconds") is not None and (
        plan["expected"].get("window_s") is not None or any(step["forecast"] for step in plan["steps"])
    )


def _is_unsure(plan: Plan) -> bool:
    return any(not forecast_text.is_sure(step["forecast"]) for step in plan["steps"])

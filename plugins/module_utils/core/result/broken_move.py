# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What can be done about a move that broke off, only from what libvirt of all hosts says of the guest now."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import RECOVER
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import Side, Verdict, judge, quoted
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed

#: Kinds of which the host at work finishes the move.
ACTS = ("resume", "resume_source", "close")
#: Kinds that need nobody: libvirt itself or another host is at work.
ELSEWHERE = ("left_to", "under_way")


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What became of a move, as far as all hosts together know.

    Attributes:
        kind: C(resume) for a post-copy that can be resumed from here, C(resume_source) for a guest that a migration has
            left paused here, C(close) for one that runs at its destination and has left something here, C(left_to) for
            a post-copy that another host resumes, C(under_way), C(lost) or C(unclear).
        source, destination: the hosts; None where that is not known.
        reason: in one sentence.
        remedy: what a person must do; empty where nobody must.
    """

    kind: str
    source: str | None
    destination: str | None
    reason: str
    remedy: str = ""


def is_suspect(here: Side) -> bool:
    """Whether a guest looks as if its move had broken off, or were in post-copy."""
    return here.split or (here.state == "paused" and here.state_reason in ("migration", "postcopy"))


def diagnose(
    name: str, here: Side, others: t.Sequence[Side], *, sent_to: str | None = None, kept: bool = False
) -> Diagnosis | None:
    """Say what can be done about a guest; None where nothing is to be done.

    Args:
        name: of the guest.
        here: the host at work, which has the guest.
        others: all other hosts of the play.
        sent_to: where this host has sent the very QEMU that holds the guest now, or sent the guest last that is off
            here now; None where its records do not say so.
        kept: whether a record of settings says that the guest which is off here has not arrived with all it had.
    """
    if here.split:
        at_destination = here.coming_in or here.state == "running"
        return _half_arrived(name, here, others) if at_destination else _half_sent(name, here, others, sent_to)
    if here.state == "paused" and here.state_reason == "postcopy":
        return Diagnosis("under_way", here.host, sent_to, f"{name} is in post-copy: {_told(here, others)}")
    if here.state == "paused" and here.state_reason == "migration":
        return _left_paused(name, here, others, sent_to)
    if here.state == "shutoff" and here.reachable:
        return _other_half_left(name, here, others, sent_to) or _left_definition(
            name, here, others, sent_to if kept else None
        )
    return None


def _other_half_left(name: str, here: Side, others: t.Sequence[Side], sent_to: str | None) -> Diagnosis | None:
    """The source of a post-copy, whose QEMU has ended while the destination still needed it."""
    there = next((side for side in others if side.host == sent_to and side.split), None)
    if there is None or len(_active(others)) != 1:
        return None
    return _as_judged(judge(name, here, there), here.host, there.host)


def _half_sent(name: str, here: Side, others: t.Sequence[Side], sent_to: str | None) -> Diagnosis:
    """The source of a post-copy that broke off."""
    holders, silent = _active(others), _silent(others)
    told = f"{name} is {_told(here, others)}"
    if len(holders) > 1:
        return _unclear(here.host, None, f"{told}: more hosts have it than a move can have", _compare(name))
    if holders and (holders[0].split or holders[0].state_reason == "postcopy"):
        there = holders[0]
        return Diagnosis("resume", here.host, there.host, f"post-copy was interrupted: {told}")
    if holders and holders[0].state == "running":
        there = holders[0]
        return _unclear(
            here.host,
            there.host,
            f"{told}: all of it is on {there.host}, or was started there anew, and its memory on {here.host} is older",
            f"see that it is well on {there.host}; then end what is left of it on {here.host}, and never let that go"
            f" on: virsh destroy {quoted(name)} on {here.host}",
        )
    if holders:
        return _unclear(here.host, holders[0].host, told, _compare(name))
    if silent and (sent_to is None or sent_to in silent):
        return _unclear(
            here.host,
            sent_to,
            f"post-copy was interrupted, and {listed(silent)} does not say whether it has the other half: {told}",
            f"destroy nothing; bring {listed(silent)} back, then run it again: {RECOVER}",
        )
    asked = next((side for side in others if side.host == sent_to), None)
    if asked is None:
        return _other_half_unknown(name, here, told, sent_to)
    return _as_judged(judge(name, here, asked), here.host, asked.host)


def _half_arrived(name: str, here: Side, others: t.Sequence[Side]) -> Diagnosis:
    """The destination of a post-copy that broke off."""
    holders, silent = _active(others), _silent(others)
    told = f"{name} is {_told(here, others)}"
    if len(holders) == 1 and (holders[0].split or holders[0].state_reason == "postcopy"):
        source = holders[0].host
        return Diagnosis("left_to", source, here.host, f"post-copy was interrupted: {told}; {source} resumes it")
    if holders:
        return _unclear(None, here.host, told, _compare(name))
    if silent:
        return _unclear(
            None,
            here.host,
            f"post-copy was interrupted, and {listed(silent)} does not say whether it has the other half: {told}",
            f"destroy nothing; bring {listed(silent)} back, then run it again: {RECOVER}",
        )
    return _other_half_unknown(name, here, told, None)


def _other_half_unknown(name: str, here: Side, told: str, sent_to: str | None) -> Diagnosis:
    where = f"{sent_to}, where it was sent," if sent_to else "its other host"
    return _unclear(
        None if here.coming_in or here.state == "running" else here.host,
        here.host if here.coming_in or here.state == "running" else sent_to,
        f"post-copy was interrupted, and no host of this play has the other half: {told}",
        f"destroy nothing yet; if {where} is not in the play, run it over that host too: {RECOVER}. If that has nothing"
        f" of {name} either, the memory is lost: end what is left (virsh destroy {quoted(name)} on {here.host}), and"
        " start it anew from its disks on one host only",
    )


def _left_paused(name: str, here: Side, others: t.Sequence[Side], sent_to: str | None) -> Diagnosis:
    told = f"{name} is {_told(here, others)}"
    if here.migrating:
        return Diagnosis("under_way", None if here.coming_in else here.host, sent_to, f"a migration is at work: {told}")
    if sent_to is None:
        return _unclear(
            here.host,
            None,
            f"a migration has left it paused, and this host has no record of where it was sent: {told}",
            f"see where it went (/var/log/libvirt/qemu/{name}.log on {here.host}); only if it runs on no host, let it"
            f" go on: virsh resume {quoted(name)} on {here.host}",
        )
    there = next((side for side in others if side.host == sent_to), None)
    if there is None:
        return _unclear(
            here.host,
            sent_to,
            f"a migration to {sent_to}, which is not in this play, has left it paused: {told}",
            f"run it over {sent_to} too: {RECOVER}",
        )
    verdict = judge(name, here, there)
    if verdict.kind == "resume_source":
        return Diagnosis("resume_source", here.host, sent_to, f"a migration has left it paused: {told}")
    return _as_judged(verdict, here.host, sent_to)


def _left_definition(name: str, here: Side, others: t.Sequence[Side], sent_to: str | None) -> Diagnosis | None:
    """A guest that is off here: whether it runs where it was sent, so that only what is left here is to be tidied."""
    running = [side for side in _active(others) if side.state == "running" and "postcopy" not in side.state_reason]
    if not here.persistent or len(_active(others)) != 1 or not running:
        return None
    there = running[0]
    if here.state_reason != "migrated" and sent_to != there.host:
        # Somebody has started it there. Which definition is to stay, only that person knows.
        return None
    return Diagnosis(
        "close", here.host, there.host, f"{name} runs on {there.host}, and its definition is still on {here.host}"
    )


def _as_judged(verdict: Verdict, source: str, destination: str) -> Diagnosis:
    kind = verdict.kind if verdict.kind in ("lost", "unclear") else "unclear"
    kind = "under_way" if verdict.kind == "in_flight" else kind
    return Diagnosis(kind, source, destination, verdict.reason, verdict.remedy)


def _unclear(source: str | None, destination: str | None, reason: str, remedy: str) -> Diagnosis:
    return Diagnosis("unclear", source, destination, reason, remedy)


def _compare(name: str) -> str:
    return f"start and destroy nothing; compare virsh domstate --reason {quoted(name)} on all of them"


def _active(others: t.Sequence[Side]) -> list[Side]:
    return [side for side in others if side.reachable and side.active]


def _silent(others: t.Sequence[Side]) -> list[str]:
    return [side.host for side in others if not side.reachable]


def _told(here: Side, others: t.Sequence[Side]) -> str:
    """What this host and each other host that has something of it say, in words."""
    told = [side for side in others if side.state != "absent" or not side.reachable]
    return " and ".join(side.describe() for side in (here, *told))

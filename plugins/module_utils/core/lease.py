# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Whose turn it is on a host: the lease that one run of a playbook holds (docs/contracts.md, "Lease").

A lease ends at its time (lease_clock.py), so that a dead run keeps nobody out. Whoever was late to notice is told by
its fence, a number that only grows: a writer with an older one than the host's is refused (a sequencer in M. Burrows,
"The Chubby lock service", OSDI 2006, section 2.4).
"""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import json_text, lease_clock, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.lease_clock import Moment, written
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal

SCHEMA = "kvmops.lease/1"

Lease = dict[str, t.Any]

#: A host that nobody has ever leased.
FREE: Lease = {
    "schema": SCHEMA,
    "owner": None,
    "run": None,
    "purpose": None,
    "since": None,
    "expires_at": None,
    "ttl_s": None,
    "boot_id": None,
    "expires_uptime_s": None,
    "fence": 0,
    "hosts": [],
}


#: A lease has some hundreds.
MOST_BYTES = 1 << 20
#: A longer one would end after the last day that Python knows.
MOST_TTL_S = 1000 * 366 * 86400
_WORD = shape.or_null(shape.text())
_SHAPE = shape.mapping({
    "schema": shape.text(),
    "owner": _WORD,
    "run": _WORD,
    "purpose": _WORD,
    "since": _WORD,
    "expires_at": _WORD,
    "ttl_s": shape.or_null(shape.whole()),
    "fence": shape.whole(0),
    "hosts": shape.list_of(shape.text()),
    "boot_id": _WORD,
    "expires_uptime_s": shape.or_null(shape.number()),
})  # fmt: skip


class LeaseError(Exception):
    """A lease that cannot be had, or cannot be read; ``refusal`` says why and what to do, ``lease`` who has it."""

    def __init__(self, why: Refusal, lease: Lease | None = None) -> None:
        super().__init__(f"{why['reason']}; {why['remedy']}")
        self.refusal = why
        self.lease = lease


class Claim(t.NamedTuple):
    """Who asks for a host's lease.

    Attributes:
        host: its name.
        owner, run: whose lease it is to be. Both together tell a holder from all others.
        purpose: what for, for those who find the host taken; None keeps the one that is there.
        ttl_s: seconds until it ends by itself, at least 1.
        hosts: all hosts that the run takes.
        fence: only this very lease is meant, one that was taken before.
        force: take it from whoever has it.
        takes_over: runs that are known to be dead. What they have is taken as if it were free, and what others have is
            not.
    """

    host: str
    owner: str
    run: str
    purpose: str | None = None
    ttl_s: int = 900
    hosts: tuple[str, ...] = ()
    fence: int | None = None
    force: bool = False
    takes_over: tuple[str, ...] = ()


def parsed(text: str | bytes, host: str, where: str) -> Lease:
    """The lease in a text.

    Raises:
        LeaseError: it is damaged or of another version. It then counts as held by somebody unknown.
    """
    try:
        if len(text) > MOST_BYTES:
            raise json_text.JsonTextError(f"it has more than {MOST_BYTES} bytes")
        found = json_text.parsed(text)
    except json_text.JsonTextError as error:
        raise damaged(host, where, f"it is not JSON ({error})") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        schema = found.get("schema") if isinstance(found, dict) else None
        raise damaged(host, where, f"its schema is {_shown(schema)}, not {SCHEMA}")
    lease: Lease = {key: found.get(key, default) for key, default in FREE.items()}
    try:
        _SHAPE(lease, "")
    except shape.ShapeError as error:
        raise damaged(host, where, f"its {error.place} {error.what}") from error
    if lease["owner"] is not None:
        _check_holder(lease, host, where)
    return lease


def _check_holder(lease: Lease, host: str, where: str) -> None:
    for key in ("owner", "run", "since", "expires_at"):
        if not isinstance(lease[key], str) or not lease[key]:
            raise damaged(host, where, f"its {key} is {_shown(lease[key])}")
    if lease["ttl_s"] is None or not 1 <= lease["ttl_s"] <= MOST_TTL_S:
        raise damaged(host, where, f"its ttl_s is {lease['ttl_s']}")
    for key in ("since", "expires_at"):
        try:
            lease_clock.moment(lease[key])
        except ValueError as error:
            raise damaged(host, where, f"its {key} is {_shown(lease[key])}, not a time in UTC") from error


def _shown(value: t.Any) -> str:
    if isinstance(value, str) and value:
        return repr(value[:40])
    return "missing" if value is None or value == "" else shape.kind_of(value)


def damaged(host: str, where: str, why: str) -> LeaseError:
    """A lease that nobody can read."""
    return LeaseError(
        refusal(
            "lease_damaged",
            f"the lease of {host} in {where} cannot be read: {why}; so {host} counts as taken",
            f"see that no run is at work on {host}, then break the lease with host_lease and force=true",
        )
    )


def take(lease: Lease, claim: Claim, now: Moment) -> Lease:
    """The lease that the host has once the claim is granted; whoever has it already gets it for longer.

    Args:
        lease: the host's lease as it is, or L(FREE) where a damaged one is broken.
        now: by the host's own clocks.

    Raises:
        LeaseError: another run has it, or the one that is meant is not there any more.
    """
    _check(claim)
    mine = _is_of(lease, claim)
    if claim.fence is not None and not (mine and lease["fence"] == claim.fence):
        raise LeaseError(_lost(lease, claim.host, claim.fence), lease)
    if not mine and not _may_break(lease, claim) and _is_held(lease, now):
        raise LeaseError(_held(lease, claim.host, now), lease)
    return {
        "schema": SCHEMA,
        "owner": claim.owner,
        "run": claim.run,
        "purpose": lease["purpose"] if mine and claim.purpose is None else claim.purpose,
        "since": lease["since"] if mine else written(now.wall),
        **lease_clock.ends_in(claim.ttl_s, now),
        "ttl_s": claim.ttl_s,
        "fence": lease["fence"] if mine else next_fence(lease["fence"], now),
        "hosts": list(claim.hosts) or (lease["hosts"] if mine else [claim.host]),
    }


def bound(lease: Lease, now: Moment) -> Lease:
    """The lease as it counts from now on: bound to this boot of the host, if somebody has it."""
    return lease if lease["owner"] is None else lease_clock.bound(lease, now)


def renew(lease: Lease, fence: int, now: Moment) -> Lease:
    """The lease for as long again as it was taken for; one that ``fence`` does not mean, or that is free, as it is."""
    if lease["fence"] != fence or lease["owner"] is None:
        return lease
    return {**lease, **lease_clock.ends_in(lease["ttl_s"], now)}


def release(lease: Lease, claim: Claim, now: Moment) -> Lease:
    """The lease once its holder gave it back. One of somebody else stays as it is, unless it is broken with force.

    The fence stays, and the next one must be higher; that of a lease that is broken grows at once, so that its holder
    begins nothing more.

    Args:
        lease: the host's lease as it is.
        now: by the host's own clocks.
    """
    mine = _is_of(lease, claim) and claim.fence in (None, lease["fence"])
    if not (mine or claim.force) or lease["owner"] is None:
        return lease
    return {**FREE, "hosts": [], "fence": lease["fence"] if mine else next_fence(lease["fence"], now)}


def start_refusal(lease: Lease, fence: int, host: str) -> Refusal | None:
    """Why a writer with this fence must not begin anything on the host any more, or None.

    A lease that has run out, or that was given back, still lets its last holder work as long as nobody else took or
    broke it: nothing that it does can meet another run.
    """
    return None if lease["fence"] == fence else _lost(lease, host, fence)


def next_fence(last: int, now: Moment) -> int:
    """A number higher than any that the host gave before.

    Counting alone would begin anew where the record was lost; the seconds since 1970 are higher than what was counted
    before that.
    """
    return max(last + 1, int((now.wall - _EPOCH).total_seconds()))


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def _check(claim: Claim) -> None:
    for option, value in (("owner", claim.owner), ("run", claim.run)):
        if not value.strip():
            raise LeaseError(
                refusal("bad_option", f"{option} is empty", f"set {option}, so that others see who has {claim.host}")
            )
    if claim.ttl_s < 1:
        raise LeaseError(
            refusal("bad_option", f"ttl_s is {claim.ttl_s}, and 1 is the least it can be", "set ttl_s to 1 or more")
        )
    if claim.ttl_s > MOST_TTL_S:
        raise LeaseError(
            refusal("bad_option", f"ttl_s is {claim.ttl_s}, and {MOST_TTL_S} is the most", "give a shorter ttl_s")
        )


def _is_of(lease: Lease, claim: Claim) -> bool:
    return (lease["owner"], lease["run"]) == (claim.owner, claim.run)


def _may_break(lease: Lease, claim: Claim) -> bool:
    return claim.force or lease["run"] in claim.takes_over


def _is_held(lease: Lease, now: Moment) -> bool:
    return lease["owner"] is not None and lease_clock.rest_s(lease, now) > 0


def _held(lease: Lease, host: str, now: Moment) -> Refusal:
    ahead = ""
    if lease_clock.begins_in_future(lease, now):
        ahead = f"; it was taken at a time that is still to come, so the clock of {host} was wrong then or is wrong now"
    return refusal(
        "lease_held",
        f"{host} is taken by {_who(lease)}, until {lease_clock.until(lease, now)} unless it is renewed{ahead}",
        f"wait for the end of that run (wait_s waits), or ask {lease['owner']}; if the run is dead, its lease ends by"
        " itself, or take it over with force=true",
    )


def _lost(lease: Lease, host: str, fence: int) -> Refusal:
    if lease["fence"] > fence and lease["owner"] is not None:
        what = f"{host} was taken over by {_who(lease)}"
    elif lease["fence"] > fence:
        what = f"{host} was taken over by another run, which has ended, or its lease was broken"
    elif lease["fence"] == fence:
        what = f"{host} is no longer taken by this run"
    else:
        what = f"there is no such lease on {host}"
    return refusal(
        "lease_lost",
        f"the lease with fencing number {fence} is no longer valid: {what}",
        "start nothing with it; run the playbook again: it takes the host again and makes a new plan",
    )


def _who(lease: Lease) -> str:
    purpose = f" ({lease['purpose']})" if lease["purpose"] else ""
    return f"{lease['owner']} for run {lease['run']}{purpose} since {lease['since']}"

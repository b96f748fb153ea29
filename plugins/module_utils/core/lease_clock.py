# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""When a lease ends.

Somebody may set a host's clock. So a lease ends by the time since the host's boot, which nobody can set. Only after a
reboot does the clock count, and then a lease lasts no longer than it was taken for.
"""

from __future__ import annotations

import datetime
import typing as t

#: A clock that is kept by NTP is turned by less than this at once.
SLACK_S = 5.0

Times = t.Mapping[str, t.Any]


class Moment(t.NamedTuple):
    """Now, by all clocks of a host.

    Attributes:
        wall: the time of day, with its zone.
        boot_id: names the boot that lasts now; None when it is not known.
        uptime_s: seconds since that boot.
    """

    wall: datetime.datetime
    boot_id: str | None = None
    uptime_s: float = 0.0


def ends_in(seconds: float, now: Moment) -> dict[str, t.Any]:
    """The keys of a lease that say when it ends."""
    return {"expires_at": written(now.wall + datetime.timedelta(seconds=seconds)), **_by_uptime(seconds, now)}


def rest_s(lease: Times, now: Moment) -> float:
    """Seconds until a lease ends that somebody has; 0 when it has ended."""
    return max(0.0, min(_promised_s(lease, now), float(lease["ttl_s"])))


def bound(lease: Times, now: Moment) -> dict[str, t.Any]:
    """The lease bound to this boot, if it was taken in another one or by a version that knew no boots.

    Without this, one that was taken while the clock was years ahead would seem to last its whole time at each look.
    """
    rest = rest_s(lease, now)
    if rest == 0 or _is_of_this_boot(lease, now):
        return dict(lease)
    # The time that people read stays, unless it is that of a wrong clock.
    wrong = _promised_s(lease, now) > rest
    return {**lease, **(ends_in(rest, now) if wrong else _by_uptime(rest, now))}


def until(lease: Times, now: Moment) -> str:
    """When a lease ends, by the host's clock as it is now."""
    end = now.wall + datetime.timedelta(seconds=rest_s(lease, now))
    known = moment(lease["expires_at"])
    return str(lease["expires_at"]) if abs((end - known).total_seconds()) <= SLACK_S else written(end)


def begins_in_future(lease: Times, now: Moment) -> bool:
    """Whether a lease was taken while the clock was ahead of what it is now."""
    return (moment(lease["since"]) - now.wall).total_seconds() > SLACK_S


def written(time: datetime.datetime) -> str:
    """A time as the contracts write it."""
    utc = time.astimezone(datetime.timezone.utc)
    return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: str) -> datetime.datetime:
    """The time that a text of the contracts says; ValueError for anything else."""
    # Python 3.9 knows no Z.
    found = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    if found.tzinfo is None:
        raise ValueError("it has no zone")
    return found


def _by_uptime(seconds: float, now: Moment) -> dict[str, t.Any]:
    known = now.boot_id is not None
    return {"boot_id": now.boot_id, "expires_uptime_s": round(now.uptime_s + seconds, 3) if known else None}


def _is_of_this_boot(lease: Times, now: Moment) -> bool:
    known = lease["boot_id"] is not None and lease["expires_uptime_s"] is not None
    return known and lease["boot_id"] == now.boot_id


def _promised_s(lease: Times, now: Moment) -> float:
    if _is_of_this_boot(lease, now):
        return float(lease["expires_uptime_s"]) - now.uptime_s
    return (moment(lease["expires_at"]) - now.wall).total_seconds()

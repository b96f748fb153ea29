# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The check after each case: nobody is lost or twice, all are whole, nothing is left changed, and all is told."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from .deaths import Struck
from .remedies import remedies
from .state import POSTCOPY_FAILED, Domain, Found, HostState

FAILED = 2
#: After Ctrl-C Ansible says only that; what has moved, and what to do, the same playbook tells when it is run again.
INTERRUPTED = 99


def after_run(
    before: Found,
    now: Found,
    *,
    dead: Collection[str],
    reborn: Collection[str],
    words: str | None,
    split: bool,
) -> list[str]:
    """Return what is wrong once the run is over and before anything was mended.

    Args:
        before: what was found before the run.
        now: what is found now.
        dead: guests that may have died. Of a post-copy, half of its memory may be left.
        reborn: guests that may have been started anew.
        words: all that was printed; None: nobody was there to say anything.
        split: a guest may be left in a broken post-copy.
    """
    told = []
    for guest in before.boots:
        active = now.active(guest)
        if len(active) > 1:
            told += [] if split and _is_split(active) else [f"{guest} is on {_places(active)}"]
        elif not active:
            told += _nowhere(guest, now, dead, words)
        elif (split or guest in dead) and POSTCOPY_FAILED in "".join(one.reason for one in active.values()):
            continue
        else:
            told += _one(guest, before, now, dead={*dead, *reborn})
    return told


def _is_split(active: dict[str, Domain]) -> bool:
    return any(POSTCOPY_FAILED in one.reason for one in active.values())


def _places(active: dict[str, Domain]) -> str:
    return " and ".join(f"{host} ({one.state}, {one.reason})" for host, one in active.items())


def _nowhere(guest: str, now: Found, dead: Collection[str], words: str | None) -> list[str]:
    told = [] if guest in dead else [f"{guest} runs nowhere, and neither its QEMU nor its host was killed"]
    if words is not None and guest not in words and not any(host in words for host in now.silent()):
        told.append(f"{guest} runs nowhere, and nothing that was printed names it")
    return told


def _one(guest: str, before: Found, now: Found, *, dead: Collection[str]) -> list[str]:
    """What is wrong with a guest that is on one host."""
    told = []
    [(host, domain)] = now.active(guest).items()
    if domain.state != "running":
        told.append(f"{guest} is {domain.state} ({domain.reason}) on {host}")
    if now.boots.get(guest) != before.boots[guest] and guest not in dead:
        told.append(f"{guest} is in boot {now.boots.get(guest, 'no answer')}, not in {before.boots[guest]}")
    verified = now.verified.get(guest) or {}
    # One that was started anew needs its time until it answers, and has no old memory.
    starting = guest in dead and not verified
    if domain.state == "running" and not starting and not verified.get("memory_ok"):
        told.append(f"the memory of {guest} is not whole: {dict(verified)}")
    if verified.get("disk_ok") is False:
        told.append(f"the disk of {guest} is not whole: {dict(verified)}")
    return told


def of_status(
    status: int, words: str, now: Found, source: str, *, expected: Collection[int], missing: Collection[str]
) -> list[str]:
    """Return what is wrong with an exit status, and whether a failure says what to do.

    Args:
        status: of the playbook.
        words: all that was printed.
        now: what was found after it.
        source: the host that was to be emptied.
        expected: the statuses that the case permits; none: by the rule.
        missing: guests that run nowhere and that somebody must hear of.
    """
    host = now.hosts[source]
    left = [] if host is None else [name for name, one in host.domains.items() if one.active]
    done = host is not None and not left and not missing
    told = []
    if expected and status not in expected:
        told.append(f"exit status {status}, not {' or '.join(map(str, sorted(expected)))}")
    if not expected and done != (status == 0):
        state = "silent" if host is None else f"left with {', '.join(left)}" if left else "empty"
        told.append(f"exit status {status}, but {source} is {state}, missing: {', '.join(sorted(missing)) or 'nobody'}")
    if status == INTERRUPTED:
        return told
    told += [f"{name} is left on {source}, and nothing that was printed names it" for name in left if name not in words]
    if status and not remedies(words):
        told.append("it failed, and no remedy was printed that somebody could simply do")
    return told


def of_words(says: Iterable[str], words: str, struck: Struck) -> list[str]:
    """Return the patterns that nothing of what was printed matches."""
    names = {
        "guest": re.escape(struck.guest),
        "waiting": re.escape(struck.waiting),
        "source": struck.source,
        "destination": struck.destination,
    }
    wanted = [pattern.format(**names) for pattern in says]
    return [f"nothing that was printed matches {pattern!r}" for pattern in wanted if not re.search(pattern, words)]


def at_end(
    before: Found,
    now: Found,
    source: str,
    *,
    off: Collection[str],
    reborn: Collection[str],
    undefined: Collection[str] = (),
) -> list[str]:
    """Return what is wrong when all was mended and each remedy was done.

    Args:
        before: what was found before the run.
        now: what is found now.
        source: the host that was drained.
        off: guests that their owner has ended.
        reborn: guests that may have been started anew.
        undefined: guests whose definition their owner has removed, or has not taken along.
    """
    told = [f"{host} does not answer" for host in now.silent()]
    for guest in before.boots:
        active = now.active(guest)
        if len(active) != 1:
            told += [] if not active and guest in off else [f"{guest} is on {_places(active) or 'no host'}"]
            continue
        told += _one(guest, before, now, dead=reborn)
        told += _definition(guest, before, now, source, undefined=guest in undefined)
    for name, host in now.hosts.items():
        told += _of_host(name, host, before.hosts[name], drained=name == source) if host else []
    return told


def _definition(guest: str, before: Found, now: Found, source: str, *, undefined: bool) -> list[str]:
    """What is wrong with the definitions of a guest that runs on one host, and with what was set while it moved.

    Args:
        undefined: whether its owner has removed its definition, or not taken it along.
    """
    [(host, domain)] = now.active(guest).items()
    [had] = before.active(guest).values()
    told = [f"{guest} is left on {source}"] if host == source else []
    transient = had.persistent and not domain.persistent
    told += [f"{guest} is transient on {host}"] if transient and not undefined else []
    told += [f"{guest} is still defined on {other}" for other in now.where(guest) if other != host]
    for what in ("autostart", "downtime_ms", "speed_mib_s", "memory_kib"):
        was, is_now = getattr(had, what), getattr(domain, what)
        if was != is_now and not (what == "autostart" and transient and undefined):
            told.append(f"{guest} has {what} {is_now} on {host}, and had {was}")
    return told + ([f"{guest} has a job on {host}"] if domain.job else [])


def _of_host(name: str, host: HostState, had: HostState | None, *, drained: bool) -> list[str]:
    told = []
    wanted = "maintenance" if drained else "active"
    if host.maintenance != wanted:
        told.append(f"{name} is {host.maintenance}, not {wanted}")
    if host.lease:
        told.append(f"{name} is still taken by {host.lease}")
    if host.at_work:
        told.append(f"a run is still at work on {name}")
    if host.shown_closed != drained:
        told.append(f"{name} is shown to other hosts as {'closed' if host.shown_closed else 'open'}")
    told += [f"{name} has {file} left" for file in host.left_files]
    if had and host.sysctl != had.sysctl:
        told.append(f"{name} has {host.sysctl}, and had {had.sysctl}")
    return told

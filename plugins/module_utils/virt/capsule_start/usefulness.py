# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: when a guest that was started is of use: its agent answers, and it works with its disks.

from __future__ import annotations

import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import guest_xml
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.guest_look import AGENT_CHANNEL
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import UnansweredError, within

POLL_S = 0.1
#: A guest goes on with what it had in memory, and may have nothing to read or write for long.
QUIET_S = 2.0
#: libvirt itself waits without an end for an agent that is connected and hangs.
AGENT_S = 5.0


class Useful(t.NamedTuple):
    """Whether a guest is of use.

    Attributes:
        yes: it is.
        by: what shows it: C(agent) where it has one, and C(disk), a read or write that has ended, or C(quiet), none
            for two seconds.
        lacks: what it has not done, as a part of a sentence; None if it is of use.
    """

    yes: bool
    by: str
    lacks: str | None


def wait(
    domain: t.Any,
    disks: t.Sequence[str],
    wait_s: float,
    *,
    may_be_quiet: bool,
    clock: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
) -> Useful:
    """Wait until a guest is of use, or until the time is over.

    Args:
        domain: the guest.
        disks: targets of its disks.
        wait_s: seconds to wait.
        may_be_quiet: whether it goes on with its memory, and its disks are here in full. A guest that begins to boot is
            quiet, too, and so is one that waits for a block of another host.
    """
    has_agent = _has_agent(domain)
    began = clock()
    answered = not has_agent
    while True:
        answered = answered or _answers(domain)
        quiet = may_be_quiet and clock() - began >= QUIET_S
        works = _has_worked(domain, disks)
        active = _is_active(domain)
        by = "disk" if works or not quiet else "quiet"
        by = f"agent and {by}" if has_agent else by
        if active and answered and (works or quiet):
            return Useful(True, by, None)
        if clock() - began >= wait_s or not active:
            lacks = "its guest agent has not answered" if not answered else "it has not read or written its disks"
            return Useful(False, by, lacks)
        sleep(POLL_S)


def _is_active(domain: t.Any) -> bool:
    try:
        return bool(domain.isActive())
    except virt.libvirt.libvirtError:
        return False


def _has_agent(domain: t.Any) -> bool:
    return guest_xml.parse(domain.XMLDesc(0)).find(f"devices/channel/target[@name='{AGENT_CHANNEL}']") is not None


def _answers(domain: t.Any) -> bool:
    target = guest_xml.parse(domain.XMLDesc(0)).find(f"devices/channel/target[@name='{AGENT_CHANNEL}']")
    if target is None or target.get("state") != "connected":
        return False
    try:
        within(AGENT_S, lambda: domain.getTime(0))
    except (virt.libvirt.libvirtError, UnansweredError):
        return False
    return True


def _has_worked(domain: t.Any, disks: t.Sequence[str]) -> bool:
    try:
        # Requests that have ended: reads, their bytes, writes.
        return any(sum(domain.blockStats(target)[0:3:2]) > 0 for target in disks) if disks else True
    except virt.libvirt.libvirtError:
        return False

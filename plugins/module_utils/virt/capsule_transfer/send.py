# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: sends a capsule to one far end, over as many connections as it takes.

from __future__ import annotations

import os
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_seconds
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.ssh_client import FarEnd
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.link import (
    Link,
    LinkLostError,
    StoppedError,
    started,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.receive_command import (
    INTERRUPTED,
    REFUSED,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.send_session import (
    Outgoing,
    SendSession,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.send_watch import SendWatch
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.token_bucket import TokenBucket

#: Pauses between two tries, in seconds; the last one again and again.
PAUSES_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
#: A far end that has never answered is more likely named wrongly than cut off.
FIRST_S = 120.0
#: ssh's own exit status for all that goes wrong with a connection.
SSH_FAILED = 255
#: With these the link was lost: ssh was killed, could not connect, or the receiver said why.
LOST = (None, SSH_FAILED, REFUSED)
#: A receiver that is killed once is started again. One that ends so often with the same words always will.
CRASHES = 5
#: What was damaged after it came is sent again once, as the receiver knows then what that is.
AGAIN = ("image_damaged",)


class FirstLink(t.NamedTuple):
    """A connection that is there before there is something to send.

    Attributes:
        link: the connection.
        came: what the far end has said.
    """

    link: Link
    came: bytes


class Sending(t.NamedTuple):
    """How a capsule is sent.

    Attributes:
        command: gives the command that connects.
        bytes_per_s: limit for the rate; None: no limit.
        link_bytes_per_s: what the link carries, where that is known: decides how well content is compressed.
        retry_s: it is tried again for so long after the last progress.
        stopping: whether the operator wants it to stop.
        then: is called with the session once the far end has all; again after an interruption.
        bucket: keeps several sends together to the rate; None: this one has it for itself.
    """

    command: t.Callable[[], t.Sequence[str]]
    bytes_per_s: float | None
    link_bytes_per_s: float | None
    retry_s: float
    stopping: t.Callable[[], bool]
    then: t.Callable[[SendSession], None] | None = None
    bucket: TokenBucket | None = None


def send(
    far_end: FarEnd,
    capsule: Outgoing,
    how: Sending,
    watch: SendWatch,
    first: FirstLink | None = None,
    clock: t.Callable[[], float] = time.monotonic,
    pause: t.Callable[[float], None] = time.sleep,
) -> bool:
    """Send what the far end lacks of a capsule.

    Args:
        far_end: where to.
        capsule: what.
        how: how.
        watch: is told how it goes.
        first: a connection that is there already; it is closed here.
        clock, pause: tests have their own.

    Returns:
        whether anything had to be sent.

    Raises:
        CapsuleError: the far end refuses, or it could not be reached for too long.
        StoppedError: the operator wanted it to stop.
    """
    progress_at, progress, failures, again, answered = clock(), watch.progress, 0, 0, False
    crashes, said = 0, ""
    while True:
        try:
            once, first = first, None
            return _once(far_end, capsule, how, watch, once or FirstLink(connected(how, clock()), b""))
        except LinkLostError as lost:
            give_up_on(lost, far_end)
            if watch.progress != progress:
                progress_at, progress, failures = clock(), watch.progress, 0
            answered = answered or lost.answered
            crashed = lost.status not in (*LOST, INTERRUPTED)
            crashes, said = (crashes + 1 if crashed and lost.said == said else int(crashed)), lost.said
            if crashes >= CRASHES:
                raise CapsuleError(
                    "receiver_fails",
                    f"the receiver on {far_end.name} has ended {crashes} times with the same words ({lost})",
                    f"check the disk and the memory of {far_end.name} (dmesg, free); if both are well, report this",
                ) from lost
            quiet_s = clock() - progress_at
            if quiet_s >= (how.retry_s if answered else min(how.retry_s, FIRST_S)):
                raise CapsuleError(
                    "transfer_interrupted",
                    f"{far_end.name} could not be reached for {human_seconds(quiet_s)}: {lost}",
                    "see whether the link works (ping), then run capsule_send again: it goes on from there",
                ) from lost
            watch.interrupted(str(lost))
            _wait(PAUSES_S[min(failures, len(PAUSES_S) - 1)], how.stopping, clock, pause)
            failures += 1
        except CapsuleError as error:
            if error.refusal["code"] not in AGAIN or again:
                raise
            again += 1
            watch.interrupted(error.refusal["reason"])


def connected(how: Sending, now: float) -> Link:
    """A connection to the far end.

    Raises:
        CapsuleError: there is no ssh on this host.
    """
    bucket = how.bucket.beside() if how.bucket is not None else TokenBucket(how.bytes_per_s, now)
    return started(how.command(), bucket, how.stopping)


def _once(far_end: FarEnd, capsule: Outgoing, how: Sending, watch: SendWatch, first: FirstLink) -> bool:
    rates = [rate for rate in (how.bytes_per_s, how.link_bytes_per_s) if rate is not None]
    watch.connected(first.link)
    try:
        session = SendSession(far_end.name, first.link, capsule, min(rates, default=None), watch, first.came)
        sent = session.run()
        if how.then is not None:
            how.then(session)
        return sent
    finally:
        watch.disconnected(first.link.close())


def give_up_on(lost: LinkLostError, far_end: FarEnd) -> None:
    """Raise what another try would not cure."""
    said = lost.said.lower()
    if lost.status == SSH_FAILED and "host key verification failed" in said:
        raise CapsuleError(
            "host_key_differs",
            f"what answers at {far_end.address} port {far_end.port} is not {far_end.name}: it has another host key",
            f"see kvmops_cluster_migration_address of {far_end.name}, and that its sshd listens there itself",
        ) from lost
    if lost.status == SSH_FAILED and "permission denied" in said:
        raise CapsuleError(
            "ticket_gone",
            f"{far_end.name} does not take the key of this send any more ({lost})",
            "run capsule_send again: it goes on from there",
        ) from lost
    if not lost.answered and lost.status not in LOST:
        raise CapsuleError(
            "ticket_gone",
            f"the receiver does not start on {far_end.name} ({lost.said or f'exit status {lost.status}'})",
            "run capsule_send again: it goes on from there",
        ) from lost


def _wait(
    seconds: float, stopping: t.Callable[[], bool], clock: t.Callable[[], float], pause: t.Callable[[float], None]
) -> None:
    end = clock() + seconds
    while clock() < end:
        if stopping():
            raise StoppedError
        pause(0.2)


def sender_id() -> str:
    """What tells this host from all others, also from one of the same name."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            with open(path, encoding="ascii") as file:
                return file.read().strip()[:64]
        except OSError:
            continue
    return os.uname().nodename

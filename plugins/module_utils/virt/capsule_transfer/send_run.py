# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: a run of capsule_send on the host that sends: to all far ends side by side.

from __future__ import annotations

import concurrent.futures
import contextlib
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.bit_rate import bytes_per_s
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import images_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, human_seconds
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import locks
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import StoredCapsule
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.run.progress import Progress
from ansible_collections.kvmops.cluster.plugins.module_utils.run.runner import Stop
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.ssh_client import FarEnd, SendKey
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer import outgoing, send
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.link import StoppedError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.send_forecast import (
    forecast,
    totals,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.send_session import Outgoing
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.send_watch import SendWatch
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.token_bucket import TokenBucket

#: Far ends that are sent to at the same time, each by a process of ssh and one of qemu-nbd. Others wait for their turn.
MOST_AT_ONCE = 8


class SendRequest(t.NamedTuple):
    """What is asked of this host; see the options of capsule_send.

    Attributes:
        first: the hosts to which this one sends itself.
    """

    guest: str
    number: int | None
    rate: str | None
    trust_domain: str | None
    retry_s: int
    ticket: str | None
    host: str
    capsule_dir: str
    first: tuple[str, ...] = ()


class Offered(t.NamedTuple):
    """The capsule that is meant.

    Attributes:
        capsule: in the store.
        image_bytes: of all its images.
        sender_id: what tells this host from all others.
        cpu: with which its memory was saved, as L(saved_cpu.described) gives it; None: it has no memory.
    """

    capsule: StoredCapsule
    image_bytes: int
    sender_id: str
    cpu: dict[str, t.Any] | None

    def named(self) -> dict[str, t.Any]:
        """What the capsule is, for a result."""
        document = self.capsule.document
        return {"guest": document["guest"], "number": document["number"], "digest": self.capsule.digest}


def offered(store: CapsuleStore, request: SendRequest) -> Offered:
    """The capsule that is meant, if it can be sent.

    Raises:
        CapsuleError: it is not here, not as a whole, or of another trust domain.
    """
    if request.rate is not None:
        bytes_per_s(request.rate)
    if request.retry_s < 0:
        raise CapsuleError("bad_option", f"retry_s is {request.retry_s}", "set retry_s to 0 or more seconds")
    capsule = store.find_capsule(request.guest, request.number)
    domain = capsule.document["trust_domain"]
    if request.trust_domain not in (None, domain):
        raise CapsuleError(
            "trust_domain",
            f"{outgoing.what_of(capsule)} is of the trust domain {domain}, not of {request.trust_domain}",
            f"set trust_domain: {domain} if it may be sent, or save the guest again with the right one",
        )
    outgoing.unfinished_fill(store, capsule)
    for host in request.first:
        if locks.is_held(store.send_lock_path(capsule.digest, host)):
            raise _busy(store, capsule, host)
    whole = outgoing.outgoing(store, capsule)
    image_bytes = sum(image.manifest.size_bytes for image in whole.images.values())
    return Offered(capsule, image_bytes, send.sender_id(), outgoing.saved_cpu_of(whole))


def _busy(store: CapsuleStore, capsule: StoredCapsule, host: str) -> CapsuleError:
    who = locks.holders_of(store.send_lock_path(capsule.digest, host))
    return CapsuleError(
        "capsule_busy",
        f"this host sends {outgoing.what_of(capsule)} to {host} already ({who})",
        "wait until that has ended; capsule_send then sends what is still missing",
    )


def checked(store: CapsuleStore, request: SendRequest, ends: t.Sequence[dict[str, t.Any]]) -> list[dict[str, t.Any]]:
    """What would be sent to each far end."""
    capsule = outgoing.outgoing(store, offered(store, request).capsule)
    found = []
    for end in ends:
        expected = forecast(end["name"], request.capsule_dir, capsule, end["wanted"])
        outcome = "refused" if expected.refusal else "would_send"
        found.append(_row(end["name"], request.host, outcome, expected.images, refused=expected.refusal))
    return found


def sent(
    store: CapsuleStore, request: SendRequest, ends: t.Sequence[dict[str, t.Any]], progress: Progress, stop: Stop
) -> list[dict[str, t.Any]]:
    """Send it to all far ends, side by side; together they keep to the rate.

    What fails for one is said of that one. The others get it all the same; none waits for one that cannot be reached.
    """
    capsule = offered(store, request).capsule
    key = SendKey(request.ticket or "")
    names = {capsule.digest, *images_of(capsule.document).values()}
    try:
        with store.using(names, f"{outgoing.what_of(capsule)} is sent to {', '.join(end['name'] for end in ends)}"):
            whole = outgoing.outgoing(store, capsule)
            bucket = TokenBucket(_limit(request), time.monotonic())
            sends = [_Send(request, store, capsule, whole, end, progress, stop) for end in ends]
            with concurrent.futures.ThreadPoolExecutor(MOST_AT_ONCE) as pool:
                return list(pool.map(lambda one: one.run(key, bucket), sends))
    finally:
        key.remove()


def _limit(request: SendRequest) -> float | None:
    return bytes_per_s(request.rate) if request.rate is not None else None


class _Send:
    """One far end."""

    def __init__(
        self,
        request: SendRequest,
        store: CapsuleStore,
        capsule: StoredCapsule,
        whole: Outgoing,
        end: dict[str, t.Any],
        progress: Progress,
        stop: Stop,
    ) -> None:
        self._request = request
        self._store = store
        self._capsule = capsule
        self._whole = whole
        self._end = end
        self._progress = progress
        self._stop = stop
        self._step = {"id": end["name"], "guest": capsule.document["guest"], "destination": end["name"]}
        self._watch = SendWatch({name: image.what for name, image in whole.images.items()}, whole.base_of, self._tell)

    def run(self, key: SendKey, bucket: TokenBucket) -> dict[str, t.Any]:
        """Send it; returns its row of the result."""
        begun = time.monotonic()
        outcome, refused = "sent", None
        try:
            if not self._once(key, bucket):
                outcome = "there"
        except CapsuleError as error:
            outcome, refused = "failed" if self._watch.images else "refused", error.refusal
        except StoppedError:
            outcome = "failed"
            refused = refusal(
                "stopped",
                f"the send to {self._end['name']} was stopped",
                "run capsule_send again: it goes on from there",
            )
        seconds = time.monotonic() - begun
        if refused:
            self._progress.write(outcome, f"{refused['reason']}: {refused['remedy']}", step=self._step)
        else:
            traffic = self._watch.traffic
            self._progress.write(
                "done",
                send_line(outcome, traffic.out, traffic.back, seconds, self._watch.resumed_bytes),
                step=self._step,
            )
        images = [
            {"what": one.what, "image": one.image, "resumed_bytes": one.resumed_bytes, **one.table}
            for one in self._watch.images.values()
        ]
        row = _row(self._end["name"], self._request.host, outcome, images, refused=refused)
        row.update(
            bytes_out=self._watch.traffic.out,
            bytes_back=self._watch.traffic.back,
            seconds=round(seconds, 2),
            interruptions=self._watch.interruptions,
        )
        return row

    def _once(self, key: SendKey, bucket: TokenBucket) -> bool:
        if self._stop.stopping.is_set():
            raise StoppedError
        if not key.exists():
            raise CapsuleError(
                "ticket_gone", "the key of this send is gone", "run capsule_send again: it goes on from there"
            )
        end = self._end
        far_end = FarEnd(
            end["name"], end["address"], end["port"], end["user"], tuple(end["host_keys"]), self._request.ticket or ""
        )
        how = send.Sending(
            command=lambda: key.command(far_end),
            bytes_per_s=_limit(self._request),
            link_bytes_per_s=end["link_bytes_per_s"],
            retry_s=self._request.retry_s,
            stopping=self._stop.stopping.is_set,
            bucket=bucket,
        )
        with self._only_one():
            return send.send(far_end, self._whole, how, self._watch)

    @contextlib.contextmanager
    def _only_one(self) -> t.Iterator[None]:
        """Be the only run of this host that sends the capsule there."""
        path = self._store.send_lock_path(self._capsule.digest, self._end["name"])
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locks.locked(path, "this send", exclusive=True, wait_s=0.0))
            except CapsuleError as error:
                raise _busy(self._store, self._capsule, self._end["name"]) from error
            yield

    def _tell(self, message: str, **figures: t.Any) -> None:
        with contextlib.suppress(OSError):
            self._progress.write("send", message, step=self._step, **figures)


def send_line(outcome: str, out: int, back: int, seconds: float, resumed_bytes: int) -> str:
    """The last line of a send.

    >>> send_line("sent", 91000, 4000, 7.71, 0)
    'sent in 7.7 s: 88.9 KiB there, 3.9 KiB back'
    """
    if outcome == "there":
        return "has it already"
    resumed = f", {human_bytes(resumed_bytes)} had come before" if resumed_bytes else ""
    return f"sent in {human_seconds(seconds)}: {human_bytes(out)} there, {human_bytes(back)} back{resumed}"


def _row(
    host: str, source: str, outcome: str, images: list[dict[str, t.Any]], *, refused: Refusal | None = None
) -> dict[str, t.Any]:
    return {
        "host": host,
        "source": source,
        "outcome": outcome,
        **totals(images),
        "bytes_out": 0,
        "bytes_back": 0,
        "seconds": 0.0,
        "interruptions": 0,
        "resumed_bytes": sum(image["resumed_bytes"] for image in images),
        "images": images,
        "seeded": [],
        "refusal": dict(refused) if refused else None,
    }

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: moves a guest with its memory over a slow link as one piece of work. It is stopped when
# the far end has answered, what the far end lacks is sent, it is started there, and this host forgets it. Where the far
# end says that it does not run there, it goes on here.

from __future__ import annotations

import contextlib
import datetime
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.bit_rate import bytes_per_s
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import frames
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import images_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.whereabouts import Evidence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal, sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, human_seconds
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import StoredCapsule
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.run.progress import Progress
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import guest_look
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_move.running_move import MOVED
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save import save_record
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save.saving import SaveRequest, save
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start.releasing import (
    ReleaseRequest,
    release,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start.start_checks import StartRequest
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start.starting import start
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.ssh_client import FarEnd, SendKey
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer import send
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.link import (
    Link,
    LinkLostError,
    StoppedError,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.outgoing import outgoing
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.send_session import SendSession
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.send_watch import SendWatch
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.explanation import explained

BACK, STOPPED, UNCLEAR = "back", "stopped", "unclear"
#: The code of a refusal, as somebody has started the guest on its old host.
RUNS_HERE = "runs_here_again"
#: The far end answers at once when ssh has logged in; so long that may take over a slow and busy link.
FIRST_ANSWER_S = 60.0
AGAIN = "run capsule_move again"


class MoveRequest(t.NamedTuple):
    """What an operator wants.

    Attributes:
        guest: name or UUID.
        host: name of this host.
        balloon, sign_with, trust_domain: as capsule_save has them.
        state_dir: where this host keeps its records.
        rate: limit for the rate, or None.
        retry_s: it is tried again for so long after the last progress.
        wait_s: how long the far end waits until the guest is of use.
        link_bytes_per_s: what the link carries, where that is known.
        name: of the guest, for lines; empty: what C(guest) says.
    """

    guest: str
    host: str
    balloon: bool
    sign_with: str | None
    trust_domain: str
    state_dir: str
    rate: str | None
    retry_s: int
    wait_s: int
    link_bytes_per_s: float | None
    name: str = ""


class Move:
    """One move.

    Args:
        connection: a writable one to this host's libvirtd.
        store: of this host.
        request: what is wanted.
        far_end: where to.
        key: with which the far end lets this host in.
        progress: where lines go.
        stopping: whether the operator wants it to stop.
    """

    def __init__(
        self,
        connection: t.Any,
        store: CapsuleStore,
        request: MoveRequest,
        far_end: FarEnd,
        key: SendKey,
        progress: Progress,
        stopping: t.Callable[[], bool],
    ) -> None:
        self._connection = connection
        self._store = store
        self._request = request
        self._far_end = far_end
        self._progress = progress
        self._step = {"id": far_end.name, "guest": {"name": request.name or request.guest}, "destination": far_end.name}
        self._record: save_record.SaveRecord | None = None
        self._started: frames.Started | None = None
        self._still_since: str | None = None
        self._word = frames.Start(request.host, "", request.wait_s)
        self._how = send.Sending(
            command=lambda: key.command(far_end),
            bytes_per_s=bytes_per_s(request.rate) if request.rate is not None else None,
            link_bytes_per_s=request.link_bytes_per_s,
            retry_s=request.retry_s,
            stopping=stopping,
            then=self._start_there,
        )

    def run(self) -> dict[str, t.Any]:
        """Move the guest; returns the module's result. C(refusal) says why it is not at the far end.

        Raises: VirtError, CapsuleError, libvirtError. Then the guest runs as before, or the error says how it does.
        """
        self._record = self._stopped_before()
        self._check_no_other_was_asked()
        first = self._first_link()
        try:
            saved = self._save()
            self._record = save_record.read(self._store, saved["guest"]["uuid"])
            capsule = self._store.find_capsule(saved["guest"]["uuid"], saved["number"])
        except BaseException:
            first.link.close()
            raise
        began = time.monotonic()
        whole = outgoing(self._store, capsule)
        watch = SendWatch({name: image.what for name, image in whole.images.items()}, whole.base_of, self._tell)
        names = {capsule.digest, *images_of(capsule.document).values()}
        why: Refusal | None = None
        try:
            with self._store.using(names, f"{saved['guest']['name']} moves to {self._far_end.name}"):
                send.send(self._far_end, whole, self._how, watch, first)
        except CapsuleError as error:
            why = error.refusal
        except StoppedError:
            why = refusal("stopped", "the move was stopped", AGAIN)
        result = self._ended(saved, capsule, why)
        traffic = watch.traffic
        images = [
            {"what": one.what, "image": one.image, "resumed_bytes": one.resumed_bytes, **one.table}
            for one in watch.images.values()
        ]
        result.update(
            bytes_out=traffic.out,
            bytes_back=traffic.back,
            seconds=round(time.monotonic() - began, 2),
            interruptions=watch.interruptions,
            images=images,
        )
        self._tell_end(result)
        return result

    # Before the guest stops

    def _stopped_before(self) -> save_record.SaveRecord | None:
        """The record of an earlier run that has stopped the guest, if it is still off."""
        domain = guest_look.find(self._connection, self._request.guest)
        if domain is None or domain.isActive():
            return None
        record = save_record.read(self._store, domain.UUIDString())
        return record if record is not None and record.stage == save_record.STOPPED else None

    def _check_no_other_was_asked(self) -> None:
        others = [host for host in (self._record.asked if self._record else ()) if host != self._far_end.name]
        if self._record is not None and others:
            name, other = self._record.guest["name"], others[0]
            raise CapsuleError(
                "start_unclear",
                f"an earlier run asked {other} to start {name}, and it is not known whether it did; it stays off on"
                f" {self._request.host}",
                f"move it to {other}, which asks {other} again; or look there (virsh domstate --reason"
                f" {self._record.guest['uuid']}), and only if it is off there let it go on here: capsule_start on"
                f" {self._request.host} with snapshots of {other} (host_info)",
            )

    def _standing(self) -> str:
        """How the guest is before this run has done anything."""
        if self._record is None:
            return "the guest runs as before"
        return f"the guest is off on {self._request.host}, where an earlier run has stopped it"

    def _first_link(self) -> send.FirstLink:
        """A connection over which the far end has answered, so that the guest is not stopped for nothing."""
        link = send.connected(self._how, time.monotonic())
        try:
            return send.FirstLink(link, self._first_answer(link))
        except LinkLostError as error:
            link.close()
            send.give_up_on(error, self._far_end)
            raise CapsuleError(
                "far_end_silent",
                f"{self._far_end.name} cannot be reached over the link for capsules ({error}); {self._standing()}",
                f"see whether {self._request.host} reaches {self._far_end.address}, port {self._far_end.port}",
            ) from error
        except StoppedError as error:
            link.close()
            raise CapsuleError(
                "stopped", f"the move was stopped before anything was done; {self._standing()}", AGAIN
            ) from error
        except BaseException:
            link.close()
            raise

    def _first_answer(self, link: Link) -> bytes:
        came, end = b"", time.monotonic() + FIRST_ANSWER_S
        while len(came) < len(frames.START):
            came += link.receive()
            if time.monotonic() >= end:
                raise LinkLostError(None, f"no answer within {human_seconds(FIRST_ANSWER_S)}", bool(came))
        # A refusal comes at once, and then the guest is not stopped.
        for frame in frames.Decoder(self._far_end.name).feed(came):
            if isinstance(frame, frames.Error):
                told = frame.refusal
                raise CapsuleError(told["code"], f"{self._far_end.name} says: {told['reason']}", told["remedy"])
        return came

    def _save(self) -> dict[str, t.Any]:
        request = self._request
        self._tell(f"{self._far_end.name} answers; the guest is saved and stops")
        saved = save(
            self._connection,
            self._store,
            SaveRequest(
                guest=request.guest,
                host=request.host,
                consistency=None,
                balloon=request.balloon,
                then="stop",
                sign_with=request.sign_with,
                trust_domain=request.trust_domain,
                state_dir=request.state_dir,
                check=False,
            ),
        )
        stopped = saved["stopped"]
        self._word = self._word._replace(at=stopped["at"])
        self._step["guest"] = saved["guest"]
        self._still_since = stopped.get("still_since")
        return saved

    # At the far end

    def _start_there(self, session: SendSession) -> None:
        self._check_still_off()
        self._tell(f"all of it is there; {self._far_end.name} starts it")
        self._write_asked({*self._asked(), self._far_end.name})
        self._started = session.start(self._word)
        if self._started.state == frames.OFF:
            self._write_asked({*self._asked()} - {self._far_end.name})

    def _check_still_off(self) -> None:
        """Nobody has started it here meanwhile: it must not run twice."""
        uuid = self._record.guest["uuid"] if self._record is not None else self._request.guest
        domain = guest_look.find(self._connection, uuid)
        if domain is not None and domain.isActive():
            name, here, there = domain.name(), self._request.host, self._far_end.name
            raise CapsuleError(
                RUNS_HERE,
                f"somebody has started {name} on {here} while it was sent, so it is not started on {there}",
                f"see who did (journalctl -u libvirtd on {here}); to move it as it is now, {AGAIN}",
            )

    def _asked(self) -> list[str]:
        return self._record.asked if self._record is not None else []

    def _write_asked(self, hosts: t.AbstractSet[str]) -> None:
        """Have it on disk, so that no later run takes the guest for off there."""
        if self._record is None:
            raise CapsuleError(
                "run_record_gone",
                "the record of the save that has stopped the guest has gone, so nobody is asked to start it",
                "see who removes files in the directory of capsules; " + AGAIN,
            )
        self._record.write(asked=sorted(hosts))

    def _ended(self, saved: dict[str, t.Any], capsule: StoredCapsule, why: Refusal | None) -> dict[str, t.Any]:
        """What became of the guest, and what follows from that."""
        started = self._started
        result: dict[str, t.Any] = {
            "changed": True,
            "guest": saved["guest"],
            "number": saved["number"],
            "digest": capsule.digest,
            "destination": self._far_end.name,
            "notes": [*saved["notes"]],
            "down_s": None,
            "useful_after_s": None,
            "useful_by": None,
            "refusal": None,
        }
        if started is not None and started.state == frames.RUNNING:
            return self._moved(result, saved, started)
        if started is not None and started.refusal is not None:
            why = started.refusal
        if why is not None and why["code"] == RUNS_HERE:
            return {**result, "state": BACK, "refusal": dict(why)}
        if why is not None and started is not None and why["code"] in frames.RAN_THERE:
            return {**result, "state": STOPPED, "refusal": dict(why)}
        # An earlier run may have asked, and this one may have come to no answer.
        if self._asked():
            return {**result, "state": UNCLEAR, "refusal": dict(self._unclear(saved, why))}
        return self._goes_on_here(result, saved, why)

    def _moved(self, result: dict[str, t.Any], saved: dict[str, t.Any], started: frames.Started) -> dict[str, t.Any]:
        since = _seconds_since(saved["stopped"].get("still_since"))
        result["notes"] += started.notes
        result["useful_by"] = started.useful_by or None
        if since is not None:
            useful_ms, running_ms = started.useful_ms, started.running_ms
            between_s = (useful_ms - running_ms) / 1000 if useful_ms is not None and running_ms is not None else 0.0
            result["down_s"] = round(since - max(0.0, between_s), 2)
            result["useful_after_s"] = round(since, 2) if useful_ms is not None else None
        proof = {"guest": saved["guest"], "host": self._far_end.name, "digest": saved["digest"], "state": "running"}
        try:
            release(
                self._connection,
                self._store,
                ReleaseRequest(saved["guest"]["uuid"], self._request.host, proof, (), check=False),
            )
        except Exception as error:  # pylint: disable=broad-except
            told = explained(error)
            if told is None:
                raise
            result["notes"].append(f"{self._request.host} still has its definition: {sentence(told)}")
        return {**result, "state": MOVED}

    def _unclear(self, saved: dict[str, t.Any], why: Refusal | None) -> Refusal:
        name, there = saved["guest"]["name"], self._far_end.name
        because = f" ({why['reason']})" if why else ""
        return refusal(
            "start_unclear",
            f"{there} was asked to start {name}, and it is not known whether it did{because}; so it stays off on"
            f" {self._request.host}",
            f"run capsule_move again: it asks {there}; or look there (virsh domstate --reason"
            f" {saved['guest']['uuid']}), and only if it is off there start it on {self._request.host} (capsule_start)",
        )

    def _goes_on_here(self, result: dict[str, t.Any], saved: dict[str, t.Any], why: Refusal | None) -> dict[str, t.Any]:
        """It surely does not run there: it goes on here, from the memory that was just saved."""
        name, here = saved["guest"]["name"], self._request.host
        reason = why["reason"] if why else f"{self._far_end.name} did not start it"
        request = StartRequest(
            guest=saved["guest"]["uuid"],
            number=saved["number"],
            host=here,
            as_new=None,
            discard_memory=False,
            evidence=Evidence(saved["stopped"]),
            allow_older=False,
            signers=(),
            networks={},
            allow_files=("*",),
            image_dir="/var/lib/libvirt/images",
            wait_s=0,
            check=False,
            of_move=True,
        )
        try:
            start(self._connection, self._store, request)
        except Exception as error:  # pylint: disable=broad-except
            told = explained(error)
            if told is None:
                raise
            reason = f"{reason}; and on {here} it could not go on: {told['reason']}"
            remedy = f"{told['remedy']}; its capsule {saved['number']} is whole: start it with capsule_start on {here}"
            return {**result, "state": STOPPED, "refusal": dict(refusal("not_moved", reason, remedy))}
        remedy = why["remedy"] if why else f"see the log of {self._far_end.name}"
        since = _seconds_since(saved["stopped"].get("still_since"))
        result["down_s"] = None if since is None else round(since, 2)
        told = refusal(why["code"] if why else "not_moved", f"{reason}; {name} runs on {here} again", remedy)
        return {**result, "state": BACK, "refusal": dict(told)}

    # What an operator sees

    def _tell(self, message: str, **figures: t.Any) -> None:
        still = _seconds_since(self._still_since)
        if still is not None:
            message = f"{message}; it has stood still for {human_seconds(still)}"
        with contextlib.suppress(OSError):
            self._progress.write("send", message, step=self._step, **figures)

    def _tell_end(self, result: dict[str, t.Any]) -> None:
        if result["state"] == MOVED:
            out = human_bytes(result["bytes_out"])
            still = "" if result["down_s"] is None else f", stood still for {human_seconds(result['down_s'])}"
            with contextlib.suppress(OSError):
                self._progress.write("done", f"runs there{still}, {out} sent", step=self._step)
        else:
            why = result["refusal"]
            with contextlib.suppress(OSError):
                self._progress.write("failed", f"{why['reason']}: {why['remedy']}", step=self._step)


def _seconds_since(at: str | None) -> float | None:
    if not at:
        return None
    then = datetime.datetime.fromisoformat(at.replace("Z", "+00:00"))
    return max(0.0, (datetime.datetime.now(datetime.timezone.utc) - then).total_seconds())

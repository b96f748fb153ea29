# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: working sets as documents: measured now, or the last ones that were kept.

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast import calibration
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.forecast import precopy_verdict
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set import working_set as documents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.page_sampling import (
    LIBVIRT_SAMPLES_PER_GIB,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.touched import (
    Touched,
    from_samples,
    touched,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.run import history
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import StoredCapsule
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import ANSWER_TIMEOUT_S, each
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.measure import capsule_changes, memory_sample
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.measure.measurement import (
    GuestMeasurement,
    measure_all,
)

_KIB = 1024
#: Of the budget, for the comparison of guests with their capsules. It goes on beside the windows.
CAPSULES_SHARE = 0.6
#: Of the budget, for the windows, where all guests have a capsule: what has changed since says more.
WINDOWS_SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be measured, and how.

    Attributes:
        uri: of this host's libvirtd.
        host: this host's name.
        state_dir: where this host keeps its records.
        guests: names; None means all that run.
        budget_s: seconds for the whole host.
        allow_monitor: whether QEMU may be asked directly.
        sample_memory: whether to read a sample of memory.
        bandwidth_bytes_per_s: what a move will have as stated, 0 when nobody does.
        capsule_dir: of the store whose capsules guests are compared with; None: they are not.
    """

    uri: str
    host: str
    state_dir: str
    guests: list[str] | None
    budget_s: float
    allow_monitor: bool
    sample_memory: bool
    bandwidth_bytes_per_s: int
    capsule_dir: str | None = None


def measure(request: Request, now: t.Callable[[], str]) -> dict[str, t.Any]:
    """Measure, keep what was measured, and return it with what could not be measured."""
    if request.budget_s <= 0:
        raise virt.VirtError(
            refusal(
                "bad_option", f"budget_s is {request.budget_s}, which leaves no time to measure", "set it to 3 or more"
            )
        )
    with virt.connect(request.uri, read_only=False) as connection:
        domains = _wanted(connection, request)
        balloons = _balloons(connection)

        link = _link(request)

        def needs_more(guest: GuestMeasurement) -> bool:
            if link is None:
                return False
            document = _document(guest, balloons, request, now())
            return precopy_verdict(document, link, cap_ms=intents.DEFAULTS["max_downtime_ms"]) == "marginal"

        seeds = _seeds(domains, request)
        with concurrent.futures.ThreadPoolExecutor(max_workers=1) as beside:
            changes = beside.submit(_changes, seeds, request)
            found = measure_all(
                connection,
                domains,
                allow_monitor=request.allow_monitor,
                budget_s=request.budget_s * (WINDOWS_SHARE if domains and len(seeds) == len(domains) else 1.0),
                sample_memory=request.sample_memory,
                needs_more=needs_more,
            )
        working_sets = [_document(guest, balloons, request, now()) for guest in found if guest.refused is None]
    for document in working_sets:
        # With a full disk the result is returned all the same. The next forecast there is less exact.
        with contextlib.suppress(OSError):
            history.add_measurement(request.state_dir, document["guest"]["uuid"], document)
    refusals = [dict(guest.refused) for guest in found if guest.refused is not None]
    return {
        "working_sets": working_sets,
        "refusals": refusals,
        "calibration": _calibration(request, working_sets),
        "changes": changes.result(),
    }


def last_measured(request: Request) -> dict[str, t.Any]:
    """The last measurement of each guest that runs. Changes nothing and needs no writable connection."""
    working_sets, refusals = [], []
    with virt.connect(request.uri, read_only=True) as connection:
        for domain in _wanted(connection, request):
            kept = history.measurements(request.state_dir, domain.UUIDString())
            if kept:
                working_sets.append(kept[-1])
            else:
                refusals.append(dict(_never_measured(domain.name())))
    return {
        "working_sets": working_sets,
        "refusals": refusals,
        "calibration": _calibration(request, working_sets),
        "changes": [],
    }


def _seeds(domains: t.Sequence[t.Any], request: Request) -> list[tuple[t.Any, StoredCapsule]]:
    """Guests with their newest capsules on this host."""
    if request.capsule_dir is None:
        return []
    store = CapsuleStore(request.capsule_dir)
    found = [(domain, capsule_changes.newest(store, domain.UUIDString())) for domain in domains]
    return [(domain, capsule) for domain, capsule in found if capsule is not None]


def _changes(seeds: t.Sequence[tuple[t.Any, StoredCapsule]], request: Request) -> list[dict[str, t.Any]]:
    """How much of each guest is not as in its newest capsule on this host."""
    store, seconds = CapsuleStore(str(request.capsule_dir)), request.budget_s * CAPSULES_SHARE / max(1, len(seeds))
    answers = each(
        seeds,
        lambda seed: capsule_changes.look(seed[0], store, seed[1], seconds),
        timeout_s=ANSWER_TIMEOUT_S + seconds,
        max_hanging=1,
    )
    # Of a guest that hangs or is gone, the forecast is made without it.
    return [answer for answer in answers if not isinstance(answer, Exception)]


def _link(request: Request) -> Link | None:
    """The link of a move from here: as stated, or the fastest that moves have shown; None where nobody knows."""
    if request.bandwidth_bytes_per_s:
        return Link(request.bandwidth_bytes_per_s)
    learned = [calibration.link_of(path) for path in history.calibrations(request.state_dir, "path").values()]
    return max((link for link in learned if link), key=lambda link: link.bandwidth_bytes_per_s, default=None)


def _wanted(connection: t.Any, request: Request) -> list[t.Any]:
    running = connection.listAllDomains(virt.libvirt.VIR_CONNECT_LIST_DOMAINS_RUNNING)
    if request.guests is None:
        return sorted(running, key=lambda domain: str(domain.name()))
    by_name = {domain.name(): domain for domain in running}
    missing = [name for name in request.guests if name not in by_name]
    if missing:
        raise virt.VirtError(
            refusal(
                "unknown_guest",
                f"{', '.join(missing)} {'does' if len(missing) == 1 else 'do'} not run on {request.host}",
                f"see what runs there: virsh list on {request.host}",
            )
        )
    return [by_name[name] for name in request.guests]


def _balloons(connection: t.Any) -> dict[str, dict[str, t.Any]]:
    """By guest: its memory, and what its balloon driver says of it."""
    lib = virt.libvirt
    found = {}
    for domain, stats in connection.getAllDomainStats(
        lib.VIR_DOMAIN_STATS_BALLOON, lib.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
    ):
        updated = stats.get("balloon.last-update")
        found[domain.UUIDString()] = {
            "memory_bytes": int(stats.get("balloon.maximum", domain.maxMemory())) * _KIB,
            "current_bytes": _bytes(stats.get("balloon.current")),
            "unused_bytes": _bytes(stats.get("balloon.unused")),
            "rss_bytes": _bytes(stats.get("balloon.rss")),
            "age_s": max(0, int(time.time() - updated)) if updated else None,
        }
    return found


def _document(
    guest: GuestMeasurement, balloons: t.Mapping[str, dict[str, t.Any]], request: Request, taken_at: str
) -> dict[str, t.Any]:
    uuid = guest.domain.UUIDString()
    balloon = balloons.get(uuid) or {"memory_bytes": int(guest.domain.maxMemory()) * _KIB}
    memory_bytes = int(balloon["memory_bytes"])
    kept = history.measurements(request.state_dir, uuid)
    samples = guest.readings[0].samples_per_gib if guest.readings else LIBVIRT_SAMPLES_PER_GIB
    return documents.working_set(
        guest={"name": guest.domain.name(), "uuid": uuid},
        taken_at=taken_at,
        method="libvirt" if samples == LIBVIRT_SAMPLES_PER_GIB else "qmp",
        samples_per_gib=samples,
        memory_bytes=memory_bytes,
        touched=_touched(guest.sample, balloon, memory_bytes),
        readings=guest.readings,
        vcpu_utilisation=guest.vcpu_utilisation,
        compressed_share=_steady(guest.sample.compressed_share if guest.sample else None, kept),
        hot_compressed_share=guest.sample.changed_compressed_share if guest.sample else None,
        sparse=guest.sample.changed_share if guest.sample else None,
        disk_write_bytes_per_s=guest.disk_write_bytes_per_s,
        history=kept,
    )


def _touched(sample: memory_sample.MemorySample | None, balloon: t.Mapping[str, t.Any], memory_bytes: int) -> Touched:
    known = touched(balloon, memory_bytes)
    if sample is None or memory_bytes > memory_sample.HOLE:
        return known
    return from_samples(
        sample.zero_share, sample.pages * memory_sample.PAGE // memory_sample.CHUNK, memory_bytes, known
    )


def _steady(share: float | None, kept: t.Sequence[t.Mapping[str, t.Any]]) -> float | None:
    """How well memory compresses, half by this sample and half by earlier ones: each has a few hundred pages only.

    By those before it alone where there was no time for a look.
    """
    before = kept[-1].get("compressed_share") if kept else None
    if share is None or before is None:
        return before if share is None else share
    return (share + before) / 2


def _calibration(request: Request, working_sets: t.Sequence[t.Mapping[str, t.Any]]) -> dict[str, t.Any]:
    guests = {}
    for document in working_sets:
        uuid = document["guest"]["uuid"]
        state = history.calibration(request.state_dir, "guest", uuid)
        if state is not None:
            guests[uuid] = state
    return {"guests": guests, "paths": history.calibrations(request.state_dir, "path")}


def _never_measured(name: str) -> Refusal:
    return refusal(
        "never_measured",
        f"{name} has not been measured on this host yet, and check mode measures nothing",
        "run working_set_info without check mode first",
    )


def _bytes(kib: int | None) -> int | None:
    return None if kib is None else int(kib) * _KIB

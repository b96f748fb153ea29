# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Find what keeps a guest on its host, whatever the destination: its state, its devices, or the host itself."""

from __future__ import annotations

import shlex
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import versions
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition import managers
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import (
    Domain,
    Intent,
    Snapshot,
    plain_state,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import RECOVER, Refusal, refusal

#: state: (code, what it is, what to do); {guest} is the name as a shell takes it
_STATES: dict[str, tuple[str, str, str]] = {
    "shutoff": ("shut_off", "is shut off", "start it first (virsh start {guest}), or leave it where it is"),
    "shutdown": ("shutting_down", "is shutting down", "wait until it is off, or start it again and retry"),
    "crashed": (
        "crashed",
        "has crashed",
        "read /var/log/libvirt/qemu on its host, then restart it (virsh destroy {guest}, virsh start {guest})",
    ),
    "pmsuspended": ("suspended", "is asleep (suspended by itself)", "wake it up (virsh dompmwakeup {guest})"),
    "unknown": ("state_unknown", "is in a state that its host does not know", "look at it with virsh domstate {guest}"),
}

#: Reasons why a guest is paused that need another remedy than resuming it; the first that is in the reason counts.
_PAUSED: tuple[tuple[str, str, str, str], ...] = (
    (
        "postcopy",
        "postcopy_broken",
        "is paused in the middle of a post-copy",
        (
            f"finish that move before anything else: {RECOVER} (--check says what it would do); destroy neither side:"
            " each holds a part of its memory"
        ),
    ),
    (
        "migrat",
        "already_migrating",
        "is paused by a migration that is under way",
        f"wait for that migration (virsh domjobinfo {{guest}}); if none is under way, its run has died: {RECOVER}",
    ),
    (
        "ioerror",
        "io_error",
        "is paused because its storage failed",
        "repair the storage (virsh domblkerror {guest}), then resume it (virsh resume {guest})",
    ),
    (
        "crash",
        "crashed",
        "is paused because it crashed",
        "read /var/log/libvirt/qemu on its host, then restart it (virsh destroy {guest}, virsh start {guest})",
    ),
)


def refusals(domain: Domain, source: Snapshot, intent: Intent) -> list[Refusal]:
    """Return all that keeps this guest on its host."""
    state = _state(domain)
    if state:
        return [state]
    found = [_job(domain), managers.managed(domain, intent)]
    found.extend(refusal(b["code"], b["reason"], b["remedy"] or "") for b in domain.get("blockers") or [])
    found.extend([old_libvirt(source), not_live(source), no_tls(source, intent), tls_crash(domain, source, intent)])
    return [refused for refused in found if refused]


def old_libvirt(snapshot: Snapshot) -> Refusal | None:
    """Return a refusal if the daemon is known to lose migrations."""
    version = versions.parsed((snapshot.get("versions") or {}).get("libvirt"))
    if version is None or version >= versions.LIBVIRT_FLOOR:
        return None
    floor = versions.shown(versions.LIBVIRT_FLOOR)
    return refusal(
        "libvirt_too_old",
        f"{snapshot['host']} runs libvirt {versions.shown(version)}; releases before {floor} lose migrations or disks",
        f"upgrade libvirt on {snapshot['host']} to {floor} or later",
    )


def not_live(snapshot: Snapshot) -> Refusal | None:
    """A hypervisor without live migration."""
    if (snapshot.get("migration") or {}).get("live") is not False:
        return None
    return refusal(
        "no_live_migration",
        f"the hypervisor of {snapshot['host']} does not offer live migration",
        f"look at 'virsh capabilities' on {snapshot['host']}: migration_features must say live",
    )


def no_tls(snapshot: Snapshot, intent: Intent) -> Refusal | None:
    """Encryption is wanted and this end has none."""
    tls = (snapshot.get("migration") or {}).get("tls") or {}
    if intent.get("encryption") != "required" or tls.get("usable") is not False:
        return None
    why = f": {tls['reason']}" if tls.get("reason") else ""
    remedy = tls.get("remedy") or f"install certificates for QEMU on {snapshot['host']} (/etc/pki/qemu)"
    return refusal(
        "encryption",
        f"encryption is required, but {snapshot['host']} cannot encrypt a migration{why}",
        f"{remedy}, or permit encryption: off",
    )


def tls_crash(domain: Domain, source: Snapshot, intent: Intent) -> Refusal | None:
    """The guest may die of QEMU issue 1937 (see core/versions.py)."""
    qemu = versions.parsed((source.get("versions") or {}).get("qemu"))
    in_use = min(_or((domain.get("balloon") or {}).get("rss_bytes"), domain["memory_bytes"]), domain["memory_bytes"])
    parallel = ((source.get("migration") or {}).get("parallel") or {}).get("usable")
    if intent.get("encryption") != "required" or in_use < versions.TLS_SAFE_BYTES or parallel:
        return None
    if qemu is None or qemu >= versions.QEMU_TLS_SAFE:
        return None
    return refusal(
        "qemu_tls_crash",
        f"QEMU {versions.shown(qemu)} on {source['host']} may crash once 64 GB went over one encrypted channel "
        f"(QEMU issue 1937), and {domain['name']} has that much memory",
        f"upgrade QEMU on {source['host']} to {versions.shown(versions.QEMU_TLS_SAFE)} or later and restart the guest, "
        "or permit encryption: off",
    )


def _state(domain: Domain) -> Refusal | None:
    state, why = plain_state(domain), str(domain.get("state_reason") or "")
    if state == "running":
        return _half_arrived(domain, why)
    if state == "paused":
        return _paused(domain, why)
    code, what, remedy = _STATES.get(state, _STATES["unknown"])
    because = f" ({why})" if why and why != "unknown" else ""
    return refusal(code, f"{domain['name']} {what}{because}", remedy.format(guest=shlex.quote(domain["name"])))


def _half_arrived(domain: Domain, why: str) -> Refusal | None:
    """Return a refusal if it runs but still fetches its memory from its source (post-copy)."""
    if not why.startswith("postcopy"):
        return None
    if "failed" in why:
        _word, code, _what, remedy = _PAUSED[0]
        return refusal(code, f"{domain['name']} is in the middle of a post-copy that broke", remedy)
    return refusal(
        "already_migrating",
        f"{domain['name']} is still fetching its memory (post-copy)",
        f"wait for that migration (virsh domjobinfo {shlex.quote(domain['name'])})",
    )


def _paused(domain: Domain, why: str) -> Refusal:
    for word, code, what, remedy in _PAUSED:
        if word in "".join(filter(str.isalnum, why.lower())):
            return refusal(code, f"{domain['name']} {what}", remedy.format(guest=shlex.quote(domain["name"])))
    because = f" ({why})" if why and why != "unknown" else ""
    return refusal(
        "paused",
        f"{domain['name']} is paused{because}",
        f"resume it (virsh resume {shlex.quote(domain['name'])})",
    )


def _job(domain: Domain) -> Refusal | None:
    job = domain.get("job")
    if not job:
        return None
    kind = job.get("operation") or job.get("type") or job.get("kind") if isinstance(job, t.Mapping) else job
    guest = shlex.quote(domain["name"])
    if not kind or "migration" in str(kind):
        return refusal(
            "already_migrating",
            f"{domain['name']} is already migrating",
            f"wait for that migration (virsh domjobinfo {guest}), or abort it (virsh domjobabort {guest})",
        )
    return refusal(
        "busy",
        f"{domain['name']} is busy with another job ({kind})",
        f"wait for that job (virsh domjobinfo {guest}), or abort it (virsh domjobabort {guest})",
    )


def _or(value: t.Any, otherwise: t.Any) -> int:
    return int(otherwise if value is None else value)

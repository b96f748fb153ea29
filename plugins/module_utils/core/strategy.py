# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""From intent to the way a guest is moved. The strategy decides, the migration job obeys.

This is the fixed strategy: pre-copy with a low downtime limit. The one that reads the working set takes its seat here.
"""

from __future__ import annotations

import dataclasses
import typing as t
import urllib.parse

from ansible_collections.kvmops.cluster.plugins.module_utils.core.versions import TLS_SAFE_BYTES

#: The limit is a target that QEMU spends, not a ceiling it avoids: an idle guest pays about 270 ms at QEMU's default of
#: 300 ms and about 90 ms at this one, for the same total time (measured at 200 Mbit/s).
OPENING_DOWNTIME_MS = 60

#: What every move asks of libvirt. Peer-to-peer outlives the client; the definition goes over together with the guest.
LIVE_FLAGS = ("LIVE", "PEER2PEER", "ABORT_ON_ERROR")
DEFINITION_FLAGS = ("PERSIST_DEST", "UNDEFINE_SOURCE")


@dataclasses.dataclass(frozen=True)
class Path:
    """The way from this host to the destination.

    Attributes:
        connect_uri: how the source's libvirtd reaches the destination's.
        migration_address: where guest memory is sent, or None to let libvirt choose.
        postcopy: whether both ends can do post-copy, as far as is known.
    """

    connect_uri: str
    migration_address: str | None = None
    postcopy: bool = False


@dataclasses.dataclass(frozen=True)
class Decision:
    """How one guest is moved: what the job is started with.

    Attributes:
        name: the strategy in one word, for people.
        reason: why this one, in one sentence.
        flags: names of libvirt's migration flags, without C(VIR_MIGRATE_).
        parameters: libvirt's typed parameters by their wire names.
        downtime_ms: QEMU's downtime limit at the start.
        downtime_cap_ms: the highest limit that the intent permits.
        postcopy: whether the job may switch to post-copy.
        suspend: whether the guest may be stopped to finish.
        deadline_s: when to give up, counted from the start; None means never as long as it makes progress.
    """

    name: str
    reason: str
    flags: tuple[str, ...]
    parameters: dict[str, t.Any]
    downtime_ms: int
    downtime_cap_ms: int
    postcopy: bool
    suspend: bool
    deadline_s: int | None


def choose(
    intent: t.Mapping[str, t.Any],
    path: Path,
    *,
    persistent: bool,
    in_use_bytes: int = 0,
    disks_to_copy: t.Sequence[str] = (),
) -> Decision:
    """Decide how a guest is moved.

    Args:
        intent: a complete intent (C(core.intent.normalise)).
        path: the way to the destination.
        persistent: whether the source has a definition that must go along.
        in_use_bytes: memory that will have to be sent at least once.
        disks_to_copy: targets of writable disks that the destination cannot see, such as C(vda).
    """
    # One encrypted channel is not safe for so much (see core/versions.py); several are, but rule post-copy out.
    parallel = intent["encryption"] == "required" and in_use_bytes >= TLS_SAFE_BYTES
    postcopy = bool(intent["allow_postcopy"]) and path.postcopy and not parallel
    cap = int(intent["max_downtime_ms"])
    return Decision(
        name="pre-copy+disks" if disks_to_copy else "pre-copy",
        reason=_reason(intent, postcopy=postcopy, disks_to_copy=disks_to_copy),
        flags=_flags(
            intent, persistent=persistent, postcopy=postcopy, parallel=parallel, copy_disks=bool(disks_to_copy)
        ),
        parameters=_parameters(intent, path, disks_to_copy),
        downtime_ms=min(OPENING_DOWNTIME_MS, cap),
        downtime_cap_ms=cap,
        postcopy=postcopy,
        suspend=bool(intent["allow_suspend"]),
        deadline_s=intent["deadline_s"],
    )


def _flags(
    intent: t.Mapping[str, t.Any], *, persistent: bool, postcopy: bool, parallel: bool, copy_disks: bool
) -> tuple[str, ...]:
    flags = list(LIVE_FLAGS)
    if persistent:
        flags.extend(DEFINITION_FLAGS)
    if postcopy:
        flags.append("POSTCOPY")
    if parallel:
        flags.append("PARALLEL")
    if intent["encryption"] == "required":
        flags.append("TLS")
    if copy_disks:
        flags.append("NON_SHARED_DISK")
    return tuple(flags)


def _parameters(intent: t.Mapping[str, t.Any], path: Path, disks_to_copy: t.Sequence[str]) -> dict[str, t.Any]:
    parameters: dict[str, t.Any] = {}
    if path.migration_address:
        parameters["migrate_uri"] = "tcp://" + bracketed(path.migration_address)
        if intent["encryption"] == "required":
            # Certificates carry names rather than addresses, so the peer is checked by the name we connect to.
            parameters["tls.destination"] = host_of(path.connect_uri) or path.migration_address
    if intent["bandwidth_mib_s"] is not None:
        parameters["bandwidth"] = int(intent["bandwidth_mib_s"])
    if disks_to_copy:
        parameters["migrate_disks"] = list(disks_to_copy)
    return parameters


def _reason(intent: t.Mapping[str, t.Any], *, postcopy: bool, disks_to_copy: t.Sequence[str]) -> str:
    parts = [f"pre-copy with a low downtime limit first, up to {intent['max_downtime_ms']} ms where needed"]
    if disks_to_copy:
        parts.append(f"disks {', '.join(disks_to_copy)} are copied along")
    if postcopy:
        parts.append("post-copy if that does not converge")
    if intent["allow_suspend"]:
        parts.append("the guest is stopped to finish if nothing else ends it")
    return "; ".join(parts)


def host_of(uri: str) -> str | None:
    """The host part of a libvirt URI, or None for a local one.

    >>> host_of("qemu+ssh://root@h2/system")
    'h2'
    """
    try:
        return urllib.parse.urlsplit(uri).hostname
    except ValueError:
        return None


def bracketed(address: str) -> str:
    """An address as it stands in a URI: IPv6 in brackets.

    >>> bracketed("fd00::12")
    '[fd00::12]'
    """
    return f"[{address}]" if ":" in address and not address.startswith("[") else address

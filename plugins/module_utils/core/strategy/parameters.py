# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""From a choice to what libvirt is asked for: flags, parameters and the first downtime limit."""

from __future__ import annotations

import dataclasses
import typing as t
import urllib.parse

from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.convergence_limit import longest_limit_s
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.methods import CHANNELS
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.available_methods import needs_channels
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.choice import Choice
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed

#: The limit is a target that QEMU spends, not a ceiling it avoids: an idle guest pays about 270 ms at QEMU's default of
#: 300 ms and about 90 ms at this one, for the same total time (measured at 200 Mbit/s). For guests without a choice.
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
    """How one guest is moved: what the job is started with, and what the control may do in flight.

    Attributes:
        method: one of C(core.forecast.forecast.METHODS).
        name: the strategy in a word or two, for people.
        reason: why this one, in one sentence.
        flags: names of libvirt's migration flags, without C(VIR_MIGRATE_).
        parameters: libvirt's typed parameters by their wire names.
        downtime_ms: QEMU's downtime limit at the start.
        downtime_cap_ms: the longest downtime that the intent permits.
        copy_bytes: what is sent of its disks as they are now, without their holes; 0 when none is copied.
        copy_capacity_bytes: size of these disks as the guest sees them.
        longest_limit_ms: the limit that stands for so long a downtime, where that is a higher one: under a cap on the
            rate QEMU decides with the capped rate, and lifts the cap for the last copy. None: it is the same.
        postcopy: whether the job may switch to post-copy.
        suspend: whether the guest may be stopped to finish.
        deadline_s: when to give up, counted from the start; None means never as long as it makes progress.
        after_rounds: so many rounds before the method does what it is named after (raise, post-copy, suspend); None
            where it does nothing in flight.
        choice: what was forecast, or None when nothing was.
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
    method: str = "pre-copy"
    after_rounds: int | None = None
    choice: Choice | None = None
    longest_limit_ms: int | None = None
    copy_bytes: int = 0
    copy_capacity_bytes: int = 0

    @property
    def limit_cap_ms(self) -> int:
        """The highest downtime limit that the intent permits."""
        return max(self.downtime_cap_ms, self.longest_limit_ms or 0)

    def downtime_at(self, limit_ms: int) -> int:
        """The downtime in milliseconds that a limit stands for."""
        return limit_ms * self.downtime_cap_ms // self.limit_cap_ms


def decide(
    intent: t.Mapping[str, t.Any],
    path: Path,
    choice: Choice | None,
    *,
    persistent: bool,
    in_use_bytes: int = 0,
    disks_to_copy: t.Sequence[t.Mapping[str, t.Any]] = (),
    keeps_holes: bool = False,
    link: Link | None = None,
) -> Decision:
    """Turn a choice into what the migration is started with.

    Args:
        intent: a complete intent (C(core.intent.normalise)).
        path: the way to the destination.
        choice: of C(core.strategy.appraisal), or None for a migration that somebody else has started: then pre-copy is
            steered as the intent permits.
        persistent: whether the source has a definition that must go along.
        in_use_bytes: memory that will have to be sent at least once.
        disks_to_copy: those that go along (C(core.snapshot.copied_disks.to_copy)).
        keeps_holes: whether both libvirts can keep the holes of an image (C(core.snapshot.copied_disks.keeps_holes)).
        link: the way as it was assumed, with the cap of this move; None when nobody knows it.
    """
    method = (choice and choice["method"]) or "pre-copy"
    settings = choice["settings"] if choice else {}
    channels = method == "parallel-zstd" or needs_channels(intent, in_use_bytes)
    # Armed wherever it is permitted, so that a guest which turns out hotter than it was needs no new start.
    postcopy = bool(intent["allow_postcopy"]) and path.postcopy and not channels
    if choice and "post-copy" in choice["why_not"] and "post-copy" not in choice["fallbacks"]:
        postcopy = False
    cap = int(intent["max_downtime_ms"])
    disks, lazy = [str(disk["target"]) for disk in disks_to_copy], intent.get("disks") == "lazy"
    if lazy:
        keeps_holes = False
    return Decision(
        name=f"{method}+{'lazy disks' if lazy else 'disks'}" if disks else method,
        reason=_lazy_reason(choice, disks) if lazy else _reason(choice, disks, keeps_holes=keeps_holes),
        flags=_flags(intent, method, persistent=persistent, postcopy=postcopy, channels=channels, disks=disks),
        parameters={
            **_parameters(intent, path, disks, keeps_holes=keeps_holes),
            **_of_method(method, settings, channels=channels),
        },
        downtime_ms=int(settings.get("limit_ms") or min(OPENING_DOWNTIME_MS, cap)),
        downtime_cap_ms=cap,
        postcopy=postcopy,
        suspend=bool(intent["allow_suspend"]),
        deadline_s=intent["deadline_s"],
        method=method,
        after_rounds=settings.get("after_rounds"),
        choice=choice,
        longest_limit_ms=int(longest_limit_s(link, cap / 1000) * 1000) if link else None,
        copy_bytes=sum(int(disk.get("copy_bytes") or 0) for disk in disks_to_copy),
        copy_capacity_bytes=sum(int(disk.get("capacity_bytes") or 0) for disk in disks_to_copy),
    )


def with_deltas(
    decision: Decision,
    targets: t.Sequence[str],
    definitions: t.Mapping[str, str],
    left_bytes: int,
    *,
    in_step: bool,
) -> Decision:
    """The same decision for a guest of whose disks what differs from old copies at the destination was sent already.

    What is left is in overlays. libvirt copies these and no layer below them.

    Args:
        decision: what was decided for whole copies.
        targets: of these disks.
        definitions: libvirt's parameters C(destination_xml) and perhaps C(persistent_xml), which name the images there.
        left_bytes: what the overlays here hold.
        in_step: whether both libvirts can send a write while the guest waits for it (8.0 or later). Otherwise each
            small write is sent as 64 KiB.
    """
    flags = [flag for flag in decision.flags if flag != "NON_SHARED_DISK"]
    flags += ["NON_SHARED_INC", *(["NON_SHARED_SYNCHRONOUS_WRITES"] if in_step else [])]
    which = f"disk {targets[0]} goes" if len(targets) == 1 else f"disks {listed(list(targets))} go"
    whole = [disk for disk in decision.parameters.get("migrate_disks", ()) if disk not in targets]
    reason = _reason(decision.choice, whole, keeps_holes="migrate_disks_detect_zeroes" in decision.parameters)
    return dataclasses.replace(
        decision,
        name=decision.name.replace("+disks", "+delta"),
        reason=f"{reason}; {which} as what differs from the copy that is there",
        flags=tuple(flags),
        parameters={**decision.parameters, **definitions},
        copy_bytes=left_bytes,
    )


def _reason(choice: Choice | None, disks: t.Sequence[str], *, keeps_holes: bool) -> str:
    if choice is None:
        return "somebody else has started it, so its method stays as it is"
    if not disks:
        return choice["reason"]
    which = f"disk {disks[0]} is" if len(disks) == 1 else f"disks {listed(list(disks))} are"
    holes = "" if keeps_holes else ", and blocks of zeros become allocated there (before libvirt 10.9)"
    return f"{choice['reason']}; {which} copied too{holes}"


def _lazy_reason(choice: Choice | None, disks: t.Sequence[str]) -> str:
    if choice is None or not disks:
        return _reason(choice, disks, keeps_holes=True)
    which = f"disk {disks[0]} comes" if len(disks) == 1 else f"disks {listed(list(disks))} come"
    return f"{choice['reason']}; {which} after the guest (capsule_fill)"


def _flags(
    intent: t.Mapping[str, t.Any],
    method: str,
    *,
    persistent: bool,
    postcopy: bool,
    channels: bool,
    disks: t.Sequence[str],
) -> tuple[str, ...]:
    lazy = intent.get("disks") == "lazy"
    wanted = {
        "POSTCOPY": postcopy,
        "PARALLEL": channels,
        "COMPRESSED": method in ("xbzrle", "parallel-zstd"),
        "AUTO_CONVERGE": method == "throttle",
        "TLS": intent["encryption"] == "required",
        "NON_SHARED_DISK": bool(disks) and not lazy,
        "NON_SHARED_INC": bool(disks) and lazy,
        # A mirror sends 64 KiB for each write of 4 KiB, and over a slow link it never gets ready.
        "NON_SHARED_SYNCHRONOUS_WRITES": bool(disks) and lazy,
    }
    first = (*LIVE_FLAGS, *DEFINITION_FLAGS) if persistent else LIVE_FLAGS
    return (*first, *(flag for flag, asked in wanted.items() if asked))


def _of_method(method: str, settings: t.Mapping[str, t.Any], *, channels: bool) -> dict[str, t.Any]:
    parameters: dict[str, t.Any] = {}
    if channels:
        parameters["parallel.connections"] = CHANNELS
    if method == "xbzrle":
        parameters["compression"] = ["xbzrle"]
        parameters["compression.xbzrle.cache"] = int(settings["cache_bytes"])
    elif method == "parallel-zstd":
        parameters["compression"] = ["zstd"]
    elif method == "throttle":
        parameters["auto_converge.initial"] = max(1, int(settings["throttle_pct"]))
    return parameters


def _parameters(
    intent: t.Mapping[str, t.Any], path: Path, disks: t.Sequence[str], *, keeps_holes: bool
) -> dict[str, t.Any]:
    parameters: dict[str, t.Any] = {}
    if path.migration_address:
        parameters["migrate_uri"] = "tcp://" + bracketed(path.migration_address)
        if intent["encryption"] == "required":
            # Certificates carry names rather than addresses, so the peer is checked by the name we connect to.
            parameters["tls.destination"] = host_of(path.connect_uri) or path.migration_address
    rate = intent["bandwidth_floor_mib_s"] or intent["bandwidth_mib_s"]
    if rate is not None:
        parameters["bandwidth"] = int(rate)
    if disks:
        parameters["migrate_disks"] = list(disks)
    if disks and keeps_holes:
        parameters["migrate_disks_detect_zeroes"] = list(disks)
    return parameters


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

# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Which methods two hosts have in common, and which of them the operator permits."""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Intent, Snapshot
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import known_bugs
from ansible_collections.kvmops.cluster.plugins.module_utils.core.versions import TLS_SAFE_BYTES, parsed

#: The first libvirt that copies disks over TLS together with parallel channels or post-copy (core/known_bugs.py).
LIBVIRT_TLS_DISKS = (10, 3, 0)
#: Methods that only the operator can permit, each with the option for it.
PERMISSIONS = (("post-copy", "allow_postcopy"), ("suspend", "allow_suspend"))

#: Methods that cannot be taken, each with the reason in a few words.
Unavailable = dict[str, str]


def unavailable(
    source: Snapshot, destination: Snapshot, intent: Intent, *, in_use_bytes: int = 0, copies_disks: bool = False
) -> Unavailable:
    """The methods of C(core.forecast.forecast) that cannot be taken.

    Args:
        source: the snapshot of the host that the guest leaves.
        destination: the other's; what it does not say (null or missing) is no reason against a method, since libvirt
            asks both QEMUs before it sends anything.
        intent: a complete intent.
        in_use_bytes: memory that will be sent at least once.
        copies_disks: whether disks go along.
    """
    found: Unavailable = {}
    if needs_channels(intent, in_use_bytes):
        # One encrypted channel is not safe for so much; several are, but they go with neither of these (QEMU < 10.1).
        found["xbzrle"] = "so much memory needs several channels when it is encrypted, and xbzrle supports only one"
        found["post-copy"] = (
            "so much memory needs several channels when it is encrypted, and post-copy supports only one"
        )
    _add(found, "post-copy", _no_postcopy(source, destination))
    if intent["allow_postcopy"] == intents.RECOVERABLE:
        why = not_recoverable(source, destination)
        _add(found, "post-copy", why and f"it could not be resumed: {why['reason']}")
    for name, side in (("xbzrle", source), ("parallel-zstd", source), ("parallel-zstd", destination)):
        _add(found, name, _no_compression(name, side))
    encrypted_disks = copies_disks and intent["encryption"] == "required"
    if encrypted_disks and min(_libvirt(source), _libvirt(destination)) < LIBVIRT_TLS_DISKS:
        for name in ("post-copy", "parallel-zstd"):
            _add(found, name, "libvirt before 10.3 cannot copy encrypted disks along with it")
    # Last: an operator is told to permit only what would then work.
    for name, option in PERMISSIONS:
        _add(found, name, None if intent[option] else not_permitted(option))
    return found


def not_permitted(option: str) -> str:
    """Why a method is unavailable that the operator could permit."""
    return f"{option} is off"


def needs_channels(intent: Intent, in_use_bytes: int) -> bool:
    """Whether so much goes encrypted that it must not go over a single channel (core/versions.py)."""
    return intent["encryption"] == "required" and in_use_bytes >= TLS_SAFE_BYTES


def _add(found: Unavailable, name: str, reason: str | None) -> None:
    if reason:
        found.setdefault(name, reason)


def _no_postcopy(source: Snapshot, destination: Snapshot) -> str | None:
    verdict = (destination.get("migration") or {}).get("postcopy") or {}
    if verdict.get("usable") is False:
        return str(verdict.get("reason") or f"{destination['host']} cannot do it")
    return cannot_send_postcopy(source)


def not_recoverable(source: Snapshot, destination: Snapshot) -> Refusal | None:
    """Why a post-copy between two hosts could not be resumed if the link between them broke; None: it could."""
    ends = ((side["host"], _version(side, "libvirt")) for side in (source, destination))
    (here, of_source), (there, of_target) = ends
    return known_bugs.not_recoverable(here, of_source, there, of_target)


def cannot_send_postcopy(source: Snapshot) -> str | None:
    """Why guests must not leave a host by post-copy, or None.

    What the kernel permits matters at the destination only: there QEMU needs userfaultfd.
    """
    found = (source.get("migration") or {}).get("known_bugs") or []
    return next((str(bug["reason"]) for bug in found if bug["code"] == known_bugs.POSTCOPY_CORRUPTION), None)


def _no_compression(name: str, side: Snapshot) -> str | None:
    method = "zstd" if name == "parallel-zstd" else name
    offered = (side.get("migration") or {}).get("compression")
    libvirt, qemu = _version(side, "libvirt"), _version(side, "qemu")
    if offered is None and libvirt and qemu:
        offered = known_bugs.compression(libvirt, qemu)
    if offered is None or method in offered:
        return None
    return f"libvirt and QEMU on {side['host']} have no {method}"


def _libvirt(side: Snapshot) -> tuple[int, ...]:
    # A version that is not known is no reason against a method.
    return _version(side, "libvirt") or (999,)


def _version(side: Snapshot, what: str) -> tuple[int, ...] | None:
    return parsed((side.get("versions") or {}).get(what))

# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What the versions of libvirt and QEMU on a host can do, and which known bugs they have.

Each entry of ``BUGS`` was observed, or read in the source or the release notes of the versions that it names. ``bugs``
judges one host by its own versions. ``between`` judges two hosts.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.versions import (
    LIBVIRT_FLOOR,
    QEMU_TLS_SAFE,
    shown,
)

Version = tuple[int, ...]
#: from (included) and to (excluded); None is open
Range = tuple[t.Optional[Version], t.Optional[Version]]
ANY: Range = (None, None)

#: libvirt that ends the daemon of the destination when a broken post-copy is resumed
POSTCOPY_RESUME_CRASH: Range = ((11, 2, 0), (11, 4, 0))
#: the first libvirt that passes zlib and zstd on to parallel channels
LIBVIRT_PARALLEL_COMPRESSION: Version = (9, 4, 0)
QEMU_PARALLEL_COMPRESSION: Version = (5, 0, 0)
LIBVIRT_PARALLEL: Version = (5, 2, 0)
QEMU_PARALLEL: Version = (4, 0, 0)
#: Debian 13 has this one. Its virtio devices have queues of 1024 entries, whatever is asked for (256 before and after).
QEMU_LONG_QUEUES: Range = ((10, 0, 13), (10, 0, 14))
#: Refuses what comes with longer queues than its own: "VQ 0 vring.num 1024 exceeds allocated max 256".
QEMU_CHECKS_QUEUES: Version = (11, 1, 0)
#: Has a state of migration for the moment before the destination runs (postcopy-device). libvirt 12.8 does not know it.
QEMU_POSTCOPY_DEVICE: Range = ((10, 2, 0), None)
#: QEMU that no longer has the old multi-threaded compression
QEMU_NO_MT: Version = (9, 1, 0)


class Verdict(t.TypedDict):
    """Can this be used here? ``usable`` is null when it could not be learned."""

    usable: bool | None
    reason: str | None
    remedy: str | None


class Bug(t.NamedTuple):
    """A known bug. ``tcg`` limits it to hosts without KVM."""

    code: str
    libvirt: Range
    qemu: Range
    reason: str
    remedy: str
    tcg: bool = False


BUGS: tuple[Bug, ...] = (
    Bug(
        "libvirt_postcopy_resume_crash",
        POSTCOPY_RESUME_CRASH,
        ANY,
        "libvirt {libvirt} dies at the destination when a broken post-copy is resumed there",
        "upgrade libvirt to 11.4 or later, or do without post-copy",
    ),
    Bug(
        "libvirt_postcopy_hang",
        (None, (12, 9, 0)),
        QEMU_POSTCOPY_DEVICE,
        "libvirt {libvirt} was seen not to notice that a post-copy broke off in its first second, with QEMU 10.2 and"
        " later (here {qemu})",
        "if a post-copy does not end: restart libvirt at the source, and not at the destination, then run"
        " ansible-playbook kvmops.cluster.recover --check",
    ),
    Bug(
        "libvirt_shutdown_crash",
        (None, (10, 5, 0)),
        ANY,
        "libvirt {libvirt} may die when a guest shuts itself down while it migrates (the guests live on)",
        "upgrade libvirt to 10.5 or later",
    ),
    Bug(
        "libvirt_tls_disks",
        (None, (10, 3, 0)),
        ANY,
        "libvirt {libvirt} cannot copy disks over TLS together with parallel channels or post-copy",
        "upgrade libvirt to 10.3 or later, or copy disks without parallel channels and post-copy",
    ),
    Bug(
        "libvirt_vmx_features",
        ((9, 10, 0), (10, 2, 0)),
        ANY,
        "libvirt {libvirt} adds vmx features to a guest's CPU that releases before 9.10 do not know",
        "upgrade libvirt to 10.2 or later before guests go to a host with an older one",
    ),
    Bug(
        "libvirt_ht_feature",
        (None, (11, 10, 0)),
        ((10, 0, 0), None),
        "with QEMU {qemu}, libvirt {libvirt} refuses guests with several threads a core ('extra features: ht')",
        "upgrade libvirt to 11.10 or later, or give the guests one thread a core",
    ),
    Bug(
        "libvirt_incoming_xml",
        ((11, 0, 0), (11, 5, 0)),
        ANY,
        "libvirt {libvirt} is slow to describe a guest that is just arriving",
        "upgrade libvirt to 11.5 or later",
    ),
    Bug(
        "qemu_tls_crash",
        ANY,
        (None, QEMU_TLS_SAFE),
        "QEMU {qemu} may crash at the source once 64 GB went over one encrypted channel (QEMU issue 1937)",
        "upgrade QEMU to 10.2 or later, or use parallel channels for guests of 48 GiB and more",
    ),
    Bug(
        "qemu_long_queues",
        ANY,
        QEMU_LONG_QUEUES,
        "guests with virtio devices that are started on QEMU {qemu} were seen not to move to QEMU 11.1",
        "start them on another QEMU than 10.0.13, or shut them down when their host is upgraded to 11.1",
    ),
    Bug(
        "qemu_postcopy_corruption",
        ANY,
        (None, (8, 0, 0)),
        "post-copy with QEMU {qemu} was seen to damage the memory of emulated (TCG) guests",
        "upgrade QEMU to 8.0 or later, or do without post-copy",
        tcg=True,
    ),
    Bug(
        "qemu_dirty_bitmap_crash",
        ANY,
        (None, (8, 0, 0)),
        "QEMU {qemu} dies when the dirty rate of an emulated (TCG) guest is measured by dirty bitmap",
        "measure by page sampling",
        tcg=True,
    ),
)


#: The one of a source that matters to a post-copy, whatever its destination can do.
POSTCOPY_CORRUPTION = "qemu_postcopy_corruption"


def bugs(libvirt: Version | None, qemu: Version | None, *, kvm: bool) -> list[Refusal]:
    """The known bugs of a host with these versions."""
    found = []
    for bug in BUGS:
        if (bug.tcg and kvm) or not _within(libvirt, bug.libvirt) or not _within(qemu, bug.qemu):
            continue
        reason = bug.reason.format(libvirt=shown(libvirt) if libvirt else "?", qemu=shown(qemu) if qemu else "?")
        found.append(refusal(bug.code, reason, bug.remedy))
    return found


def postcopy(
    qemu: Version | None,
    *,
    kvm: bool,
    qemu_user: str | None,
    unprivileged_userfaultfd: str | None,
) -> Verdict:
    """Can guests arrive here by post-copy?

    Args:
        qemu_user: the user QEMU runs as; root may use userfaultfd in any case.
        unprivileged_userfaultfd: the sysctl's value; None when the kernel does not have it.
    """
    if qemu is not None and qemu < (8, 0, 0) and not kvm:
        bug = next(bug for bug in BUGS if bug.code == POSTCOPY_CORRUPTION)
        return _no(bug.reason.format(qemu=shown(qemu)), bug.remedy)
    if qemu_user in ("root", "+0", "0"):
        return _yes()
    if unprivileged_userfaultfd is None:
        return {
            "usable": None,
            "reason": "this kernel does not say whether QEMU may use userfaultfd",
            "remedy": "check whether the kernel has CONFIG_USERFAULTFD",
        }
    if unprivileged_userfaultfd.strip() == "1":
        return _yes()
    return _no(
        f"QEMU runs as {qemu_user or 'another user than root'} and vm.unprivileged_userfaultfd is "
        f"{unprivileged_userfaultfd.strip()}",
        "sysctl -w vm.unprivileged_userfaultfd=1, and put it into /etc/sysctl.d",
    )


def postcopy_recover(libvirt: Version | None, of_postcopy: Verdict) -> Verdict:
    """Can a broken post-copy be resumed here?"""
    if libvirt is None or of_postcopy["usable"] is None:
        return {"usable": None, "reason": of_postcopy["reason"], "remedy": of_postcopy["remedy"]}
    if not of_postcopy["usable"]:
        return _no(of_postcopy["reason"] or "", of_postcopy["remedy"] or "")
    if _within(libvirt, POSTCOPY_RESUME_CRASH):
        return _no(
            f"libvirt {shown(libvirt)} dies when a post-copy is resumed on it", "upgrade libvirt to 11.4 or later"
        )
    if libvirt < LIBVIRT_FLOOR:
        return _no(
            f"libvirt {shown(libvirt)} cannot resume a post-copy that was cut",
            f"upgrade libvirt to {shown(LIBVIRT_FLOOR)} or later",
        )
    return _yes()


def resume_refusal(source: str, of_source: Version, destination: str, of_destination: Version) -> Refusal | None:
    """Why a broken post-copy must not be resumed between two hosts, by the versions of their libvirts; None: it may.

    A daemon that dies would leave a half of the guest that nothing can resume any more. libvirt can be upgraded below
    the halves of a guest: no daemon holds them.
    """
    fault = _resume_fault(source, of_source, destination, of_destination)
    if fault is None:
        return None
    return refusal(
        fault.code,
        f"{fault.reason}, and the guest would be lost",
        f"leave both halves as they are, upgrade libvirt on {fault.host} to {shown(fault.wanted)} or later (QEMU need"
        " not be restarted for that, and must not be), then run it again",
    )


def not_recoverable(
    source: str, of_source: Version | None, destination: str, of_destination: Version | None
) -> Refusal | None:
    """Why a post-copy between two hosts could not be resumed if the link between them broke; None: it could.

    A version that is not known is a reason: the operator wants to be certain.
    """
    if of_source is None or of_destination is None:
        host = source if of_source is None else destination
        return refusal(
            "postcopy_not_recoverable",
            f"it is not known whether libvirt on {host} can resume a post-copy",
            f"see that {host} answers (virsh version), or permit allow_postcopy: true",
        )
    fault = _resume_fault(source, of_source, destination, of_destination)
    if fault is None:
        return None
    return refusal(
        "postcopy_not_recoverable",
        fault.reason,
        f"upgrade libvirt on {fault.host} to {shown(fault.wanted)} or later, or permit allow_postcopy: true",
    )


class _ResumeFault(t.NamedTuple):
    """What keeps a post-copy from being resumed: on which host, and the first libvirt there that would do."""

    code: str
    host: str
    reason: str
    wanted: Version


def _resume_fault(source: str, of_source: Version, destination: str, of_destination: Version) -> _ResumeFault | None:
    for host, version in ((destination, of_destination), (source, of_source)):
        if _within(version, POSTCOPY_RESUME_CRASH):
            reason = f"libvirt {shown(version)} on {host} dies when a broken post-copy is resumed"
            return _ResumeFault("libvirt_postcopy_resume_crash", host, reason, POSTCOPY_RESUME_CRASH[1] or version)
        if version < LIBVIRT_FLOOR:
            reason = f"libvirt {shown(version)} on {host} cannot resume a post-copy that broke off"
            return _ResumeFault("libvirt_postcopy_no_resume", host, reason, LIBVIRT_FLOOR)
    return None


def parallel(libvirt: Version | None, qemu: Version | None) -> Verdict:
    """Can memory go over several channels at once?"""
    if libvirt is None or qemu is None:
        return {"usable": None, "reason": "the version of libvirt or QEMU is not known", "remedy": None}
    if libvirt < LIBVIRT_PARALLEL:
        return _no(f"libvirt {shown(libvirt)} has no parallel migration", "upgrade libvirt to 5.2 or later")
    if qemu < QEMU_PARALLEL:
        return _no(f"QEMU {shown(qemu)} has no parallel migration", "upgrade QEMU to 4.0 or later")
    return _yes()


def compression(libvirt: Version | None, qemu: Version | None) -> list[str]:
    """The methods that can be asked for; zlib and zstd only together with parallel channels."""
    methods = ["xbzrle"]
    if qemu is not None and qemu < QEMU_NO_MT:
        methods.append("mt")
    if libvirt is not None and libvirt >= LIBVIRT_PARALLEL_COMPRESSION and qemu and qemu >= QEMU_PARALLEL_COMPRESSION:
        methods.extend(["zlib", "zstd"])
    return methods


def too_old(host: str, libvirt: Version | None) -> Refusal | None:
    """A libvirt that is known to lose guests or disks."""
    if libvirt is None or libvirt >= LIBVIRT_FLOOR:
        return None
    return refusal(
        "libvirt_too_old",
        f"libvirt {shown(libvirt)} on {host} is known to lose migrations or disks",
        f"upgrade libvirt on {host} to {shown(LIBVIRT_FLOOR)} or later",
    )


def between(
    source: str,
    source_versions: tuple[Version, Version],
    destination: str,
    destination_versions: tuple[Version, Version],
) -> Refusal | None:
    """What to know when guests go to a host with other software; it does not forbid the path.

    Args:
        source_versions, destination_versions: libvirt's and QEMU's.
    """
    (libvirt_here, qemu_here), (libvirt_there, qemu_there) = source_versions, destination_versions
    vmx = next(bug for bug in BUGS if bug.code == "libvirt_vmx_features")
    if _within(libvirt_here, vmx.libvirt) and libvirt_there < (9, 10, 0):
        return refusal(vmx.code, vmx.reason.format(libvirt=shown(libvirt_here)), vmx.remedy)
    queues = next(bug for bug in BUGS if bug.code == "qemu_long_queues")
    if _within(qemu_here, queues.qemu) and qemu_there >= QEMU_CHECKS_QUEUES:
        return refusal(queues.code, queues.reason.format(qemu=shown(qemu_here)), queues.remedy)
    if qemu_there < qemu_here:
        return refusal(
            "qemu_older",
            f"QEMU {shown(qemu_there)} on {destination} is older than {shown(qemu_here)} on {source}: only guests with "
            "a machine type that both know can go there",
            f"upgrade QEMU on {destination} first, or give guests an older machine type",
        )
    if libvirt_there < libvirt_here:
        return refusal(
            "libvirt_older",
            f"libvirt {shown(libvirt_there)} on {destination} is older than {shown(libvirt_here)} on {source}: it may "
            "not know all of a guest's settings",
            f"upgrade libvirt on {destination} first",
        )
    return None


def _within(version: Version | None, span: Range) -> bool:
    first, end = span
    if version is None:
        return span == ANY
    return (first is None or version >= first) and (end is None or version < end)


def _yes() -> Verdict:
    return {"usable": True, "reason": None, "remedy": None}


def _no(reason: str, remedy: str) -> Verdict:
    return {"usable": False, "reason": reason, "remedy": remedy}

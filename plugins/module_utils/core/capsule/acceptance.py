# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""May a host take a capsule that comes in: its signature, its number, its base, and what it needs to start.

Each check gives refusals with a remedy. None of them reads a file: what the host knows is told.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import Capsule
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.versions import parsed as parsed_version

#: The first libvirt that writes and reads memory with a place for each page.
SPARSE_LIBVIRT = (11, 2, 0)


class Known(t.NamedTuple):
    """What a host knows of the guest of a capsule. It is kept outside of capsules, and outlives all of them.

    Attributes:
        number: the highest number that the host has ever taken of this guest; 0: none.
        digest: of that capsule; None: it is not known.
        signed: whether that capsule was signed. Then no later one may lack a signature.
    """

    number: int = 0
    digest: str | None = None
    signed: bool = False


class Signature(t.NamedTuple):
    """What C(ssh-keygen -Y verify) said.

    Attributes:
        state: C(none), C(good) or C(bad).
        detail: who signed it, or why it is bad.
    """

    state: str
    detail: str = ""


def signature_refusal(capsule: Capsule, signature: Signature, known: Known, keys_given: bool) -> Refusal | None:
    """Why the signature of a capsule is not enough, or None.

    A bad signature is never accepted. None at all is accepted only where nobody gave a key, and the guest's last
    capsule had none either.

    Args:
        capsule: the document.
        signature: its signature.
        known: of the guest.
        keys_given: whether the operator named the keys that may sign.
    """
    name, number = capsule["guest"]["name"], capsule["number"]
    if signature.state == "good":
        return None
    if signature.state == "bad":
        return refusal(
            "signature_bad",
            f"the signature of capsule {number} of {name} is not right ({signature.detail})",
            "do not start it; find out who changed it, and send it again from its source",
        )
    if keys_given or known.signed:
        why = "keys that may sign are named" if keys_given else f"capsule {known.number} was signed"
        return refusal(
            "signature_missing",
            f"capsule {number} of {name} is not signed, and {why}",
            "sign it where it is made: sign_with of the module (move_capsule_sign_with of a role) names"
            " the file of a key",
        )
    return None


def replay_refusal(capsule: Capsule, digest: str, known: Known, allow_older: bool = False) -> Refusal | None:
    """Why a capsule is not to be taken or started as this guest because of its number, or None.

    Args:
        capsule: the document.
        digest: of the document.
        known: of the guest.
        allow_older: the operator permits an older one by name.
    """
    name, number = capsule["guest"]["name"], capsule["number"]
    if number == known.number and known.digest not in (None, digest):
        return refusal(
            "capsule_forked",
            f"there are two different capsules with number {number} of {name}: {known.digest} is here, {digest} came",
            f"find out on which hosts {name} was saved; keep one of the two, and save the guest again where it runs",
        )
    if number < known.number and not allow_older:
        return refusal(
            "capsule_older",
            f"capsule {number} of {name} is older than {known.number}, which this host has seen:"
            " what the guest has done since would be lost, and what was revoked since would be valid again",
            f"use capsule {known.number}, start this one as another guest with as_new,"
            " or permit it with allow_older: true",
        )
    return None


def host_refusals(capsule: Capsule, host: t.Mapping[str, t.Any]) -> list[Refusal]:
    """What a host lacks to start a capsule: to be said before anything is sent.

    A guest without memory starts anew and needs its machine type only. What is not known of the host refuses nothing.

    Args:
        capsule: the document.
        host: its snapshot.
    """
    return [one for one in (_machine(capsule, host), _sparse(capsule, host), _qemu(capsule, host)) if one]


def _machine(capsule: Capsule, host: t.Mapping[str, t.Any]) -> Refusal | None:
    emulators = host.get("emulators") or []
    fitting = [one for one in emulators if one.get("arch") == capsule["arch"]]
    name = capsule["guest"]["name"]
    if emulators and not fitting:
        return refusal(
            "capsule_arch",
            f"{name} is an {capsule['arch']} guest, and {host['host']} runs no such guests",
            f"choose a host with {capsule['arch']}",
        )
    machines = {machine for one in fitting for machine in one.get("machines") or []}
    if machines and capsule["machine"] not in machines:
        return refusal(
            "machine_type",
            f"{host['host']} does not know the machine type {capsule['machine']} of {name}",
            f"upgrade QEMU on {host['host']}, or choose a host that has {capsule['machine']}",
        )
    return None


def _sparse(capsule: Capsule, host: t.Mapping[str, t.Any]) -> Refusal | None:
    libvirt = parsed_version((host.get("versions") or {}).get("libvirt"))
    if not capsule["memory"] or capsule["memory"]["format"] != "sparse" or not libvirt or libvirt >= SPARSE_LIBVIRT:
        return None
    return refusal(
        "sparse_memory",
        f"the memory of {capsule['guest']['name']} is saved in the sparse form, and libvirt"
        f" {host['versions']['libvirt']} on {host['host']} cannot read it",
        f"upgrade libvirt on {host['host']} to 11.2, or save without memory (consistency: frozen)",
    )


def _qemu(capsule: Capsule, host: t.Mapping[str, t.Any]) -> Refusal | None:
    here, there = (parsed_version(one.get("qemu")) for one in (capsule["versions"], host.get("versions") or {}))
    if not capsule["memory"] or not here or not there or there[:2] >= here[:2]:
        return None
    return refusal(
        "qemu_older",
        f"the memory of {capsule['guest']['name']} was saved by QEMU {capsule['versions']['qemu']}, and"
        f" {host['host']} has {host['versions']['qemu']}, which may not read it",
        f"upgrade QEMU on {host['host']}, or save without memory (consistency: frozen)",
    )

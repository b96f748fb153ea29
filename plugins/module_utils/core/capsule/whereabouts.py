# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Whether the guest of a capsule may run somewhere, so that a start would make two of it."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import Capsule
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Snapshot, is_off, plain_state
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal


class Evidence(t.NamedTuple):
    """What is known of other hosts.

    Attributes:
        stopped: the word of the host that made the capsule: C(stopped) of the result of capsule_save.
        snapshots: of hosts, taken just before.
        source_is_off: the operator's word that the guest runs nowhere, for a site that is lost.
    """

    stopped: t.Mapping[str, t.Any] | None = None
    snapshots: t.Sequence[Snapshot] = ()
    source_is_off: bool = False


def start_refusal(capsule: Capsule, digest: str, host: str, evidence: Evidence) -> Refusal | None:
    """Why a capsule is not to be started as the guest that it was made of, or None.

    What this host itself runs is not asked here: its libvirtd says that.

    Args:
        capsule: the document.
        digest: of the document.
        host: the host that is to start it.
        evidence: what is known of other hosts.
    """
    guest = capsule["guest"]
    for snapshot in evidence.snapshots:
        for domain in snapshot.get("domains") or []:
            if domain.get("uuid") != guest["uuid"] or snapshot["host"] == host:
                continue
            if not is_off(domain):
                return refusal(
                    "runs_elsewhere",
                    f"{guest['name']} is {plain_state(domain)} on {snapshot['host']}",
                    f"save and stop it there first (capsule_save with then: stop on {snapshot['host']}), or start the"
                    " capsule as another guest with as_new",
                )
            if domain.get("autostart"):
                return refusal(
                    "may_start_elsewhere",
                    f"{guest['name']} is off on {snapshot['host']}, and starts there with its host (autostart)",
                    f"virsh autostart --disable {guest['uuid']} on {snapshot['host']}",
                )
    if evidence.source_is_off or capsule["made_on"] == host:
        return None
    return _not_proven(capsule, digest, evidence)


def _not_proven(capsule: Capsule, digest: str, evidence: Evidence) -> Refusal | None:
    guest, source, number = capsule["guest"], capsule["made_on"], capsule["number"]
    said = evidence.stopped
    if said and (said.get("guest") or {}).get("uuid") == guest["uuid"]:
        if said.get("digest") == digest:
            return None
        return refusal(
            "stopped_other_capsule",
            f"{source} has stopped {guest['name']} with capsule {said.get('number')}, and this is capsule {number}:"
            " what it has done in between would be lost",
            f"send capsule {said.get('number')} here (capsule_send), and start that one",
        )
    if any(snapshot["host"] == source for snapshot in evidence.snapshots):
        # It was not found running on any of them.
        return None
    return refusal(
        "may_run_elsewhere",
        f"nothing says that {guest['name']} is off on {source}, where capsule {number} was made",
        f"give stopped of the result of capsule_save with then: stop, or snapshots with that of {source}"
        " (cluster_view); if that site is lost, source_is_off: true",
    )


def release_refusal(
    guest: t.Mapping[str, str],
    host: str,
    digest: str,
    started: t.Mapping[str, t.Any] | None,
    snapshots: t.Iterable[Snapshot],
) -> Refusal | None:
    """Why a host is not to forget a guest that it has stopped, or None: it provably runs elsewhere.

    Args:
        guest: name and UUID.
        host: the host that has stopped it.
        digest: of the capsule with which it was stopped.
        started: the result of capsule_start on another host.
        snapshots: of hosts, taken just before.
    """
    for snapshot in snapshots:
        for domain in snapshot.get("domains") or []:
            if domain.get("uuid") == guest["uuid"] and snapshot["host"] != host and domain.get("state") == "running":
                return None
    if started and (started.get("guest") or {}).get("uuid") == guest["uuid"]:
        runs = started.get("state") == "running" and started.get("host") not in (None, host)
        if runs and started.get("digest") == digest:
            return None
    return refusal(
        "not_started_elsewhere",
        f"nothing proves that {guest['name']} runs on another host now, so {host} keeps it",
        "give started (the result of capsule_start on the other host), or snapshots with that of the other host",
    )

# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""How far a rolling upgrade has come: which hosts are done, begun or left."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Snapshot
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.upgrade_record import Record

Records = t.Mapping[str, Record]
Snapshots = t.Mapping[str, Snapshot]


class UpgradeStatus(t.NamedTuple):
    """A run, and its hosts by how far it has come.

    ``begun`` hosts may be half upgraded and are closed, or guests of them wait to be started; they come first. ``left``
    has them too.
    """

    run: str
    resumed: bool
    done: list[str]
    begun: list[str]
    left: list[str]


def upgrade_status(
    hosts: t.Sequence[str], records: Records, snapshots: Snapshots, *, wanted: str, fresh: str
) -> UpgradeStatus:
    """Find the run to continue, or begin a new one.

    A host is done only if it still has the QEMU that it was upgraded to.

    Args:
        hosts: those to upgrade.
        records: what each host has on record, as far as it has something.
        snapshots: every host of the cluster that answers.
        wanted: the run the operator names, or an empty string: the one that was not finished, if there is one.
        fresh: the name of a new run.
    """
    known = {host: records[host] for host in hosts if host in records}
    run = wanted or _unfinished(known.values()) or fresh
    mine = {host: record for host, record in known.items() if record["run"] == run}
    begun = [host for host, record in known.items() if record["phase"] == "begun" or record["stopped"]]
    done = [host for host, record in mine.items() if host not in begun and _is_done(record, snapshots.get(host))]
    return UpgradeStatus(run, bool(mine), done, begun, [host for host in hosts if host not in done])


def _unfinished(records: t.Collection[Record]) -> str | None:
    """The newest run that began a host and has not ended.

    One that ended leaves hosts behind that it did not come to, or left out; they are the next run's. So are those of
    one that began none, for what it knew is no longer so.
    """
    ended = {record["run"] for record in records if record["phase"] == "over"}
    begun = {record["run"] for record in records if record["phase"] in ("begun", "upgraded")}
    going_on = [record for record in records if record["run"] in begun - ended]
    newest = max(going_on, key=lambda record: str(record["at"]), default=None)
    return None if newest is None else str(newest["run"])


def _is_done(record: Record, snapshot: Snapshot | None) -> bool:
    return record["phase"] in ("upgraded", "over") and qemu_of(snapshot) == record["qemu"]


def qemu_of(snapshot: Snapshot | None) -> str | None:
    """The version of a host's QEMU; None of a host that does not answer."""
    return None if snapshot is None else (snapshot.get("versions") or {}).get("qemu")


def lines(found: UpgradeStatus, snapshots: Snapshots) -> list[str]:
    """Where a run stands, for people.

    >>> lines(UpgradeStatus("r1", False, [], [], ["h1"]), {"h1": {"versions": {"qemu": "10.0.13"}}})
    ['Rolling upgrade r1', '  to do: h1 (QEMU 10.0.13)']
    """

    def shown(hosts: t.Iterable[str]) -> str:
        return ", ".join(f"{host} (QEMU {qemu_of(snapshots.get(host)) or 'unknown'})" for host in hosts)

    told = [f"Rolling upgrade {found.run}{' goes on' if found.resumed else ''}"]
    waiting = [host for host in found.left if host not in found.begun]
    for what, hosts in (("done", found.done), ("begun earlier, comes first", found.begun), ("to do", waiting)):
        told += [f"  {what}: {shown(hosts)}"] if hosts else []
    return told

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what is wrong with a host itself, before a guest is sent to it or from it.

from __future__ import annotations

import datetime
import json
import posixpath
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Snapshot, is_off, is_open
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast import send_buffer
from ansible_collections.kvmops.cluster.plugins.module_utils.core.intent import RECOVERABLE
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import left_definitions
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.plan_forecasts import interface_bytes_per_s
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements import resource_refusals, shares
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import capsule_tools, evacuability
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB, listed

Snapshots = t.Mapping[str, Snapshot]


class Finding(t.TypedDict):
    """Something about a host. ``bad`` findings stop moves; the others are worth knowing."""

    host: str
    bad: bool
    refusal: Refusal


def check_host(snapshot: Snapshot, intent: t.Mapping[str, t.Any]) -> list[Finding]:
    """Return what one host's own snapshot says: versions, capabilities, known bugs, maintenance."""
    host = snapshot["host"]
    stops = [
        evacuability.old_libvirt(snapshot),
        evacuability.not_live(snapshot),
        evacuability.no_tls(snapshot, intent),
        _no_postcopy(snapshot, intent),
    ]
    bugs = [_as_refusal(bug) for bug in (snapshot.get("migration") or {}).get("known_bugs") or []]
    found = [Finding(host=host, bad=True, refusal=stop) for stop in stops if stop]
    found += [Finding(host=host, bad=False, refusal=note) for note in [*bugs, _closed(snapshot)] if note]
    return found


def check_capsules(snapshot: Snapshot) -> list[Finding]:
    """Return what a host lacks for capsules. No move needs it, so these are notes."""
    return [Finding(host=snapshot["host"], bad=False, refusal=one) for one in capsule_tools.lacking(snapshot)]


def check_clocks(snapshots: Snapshots, earliest: str, latest: str, most_s: float) -> list[Finding]:
    """Return hosts whose clock differs from the controller's. A guest takes the time of its new host.

    Args:
        snapshots: all hosts, with the time each believed it was when it was looked at.
        earliest, latest: when, by the controller's clock, the looking began and ended.
        most_s: how far off a clock may be.
    """
    first, last = _time(earliest), _time(latest)
    found: list[Finding] = []
    for host, snapshot in snapshots.items():
        at = _time(snapshot["taken_at"])
        off_s = max((first - at).total_seconds(), (at - last).total_seconds())
        if off_s > most_s:
            side = "behind" if at < first else "ahead of"
            why = refusal(
                "clock",
                f"the clock of {host} is {off_s:.0f} s {side} the controller's",
                f"let chrony or systemd-timesyncd set it: timedatectl on {host}",
            )
            found.append({"host": host, "bad": True, "refusal": why})
    return found


def check_storage(sources: Snapshots, destinations: Snapshots) -> list[Finding]:
    """Destinations that do not have the shared storage which guests of the sources use."""
    found: list[Finding] = []
    for path, used in sorted(_shared_in_use(sources).items()):
        for host, snapshot in destinations.items():
            missing = _storage_trouble(path, used, snapshot)
            if missing:
                found.append({"host": host, "bad": True, "refusal": missing})
    return found


def check_disk_locks(snapshot: Snapshot) -> list[Finding]:
    """Return the guests of a host that nothing keeps from running on two hosts at once.

    QEMU itself locks image files, and block devices it does not lock.
    """
    # Older documents do not tell.
    manager = (snapshot.get("migration") or {}).get("lock_manager", "")
    guests = [
        domain["name"]
        for domain in snapshot.get("domains") or []
        if not is_off(domain) and any(d.get("type") == "block" and d.get("shared") for d in domain.get("disks") or [])
    ]
    if manager is not None or not guests:
        return []
    why = refusal(
        "no_disk_locks",
        f"nothing locks the shared block devices of {listed(sorted(guests), 5)}: if a switchover goes wrong,"
        " two hosts can run one guest on them",
        'set lock_manager = "lockd" in /etc/libvirt/qemu.conf of all hosts (virtlockd, and lockspaces for block'
        " devices in qemu-lockd.conf), or use sanlock",
    )
    return [{"host": snapshot["host"], "bad": False, "refusal": why}]


def check_left_definitions(hosts: t.Iterable[str], snapshots: Snapshots) -> list[Finding]:
    """Return definitions that hosts still have of guests that run on other hosts.

    Args:
        hosts: that are checked.
        snapshots: all hosts that answer.
    """
    return [
        {"host": host, "bad": remark["code"] == left_definitions.STARTS_TWICE, "refusal": remark}
        for host in hosts
        for remark in left_definitions.remarks([host], snapshots)
    ]


def check_requirements(sources: Snapshots, destinations: Snapshots) -> list[Finding]:
    """Destinations that lack what guests of the sources name: bridges, pools, firmware and so on.

    That stops moves only if no destination has it.
    """
    lacking: dict[tuple[str, str, str], tuple[Refusal, list[str], list[bool]]] = {}
    for source, snapshot in sorted(sources.items()):
        there = {host: one for host, one in sorted(destinations.items()) if host != source}
        for domain in () if not there else snapshot.get("domains") or []:
            found = {} if is_off(domain) else _lacks(domain, snapshot, there)
            has_none = len(found) == len(there)
            for host, refused in found.items():
                for one in refused:
                    # The same for all guests, apart from the guest's name.
                    key = (host, one["code"], one["reason"].replace(domain["name"], ""))
                    dummy, guests, stops = lacking.setdefault(key, (one, [], []))
                    guests.append(domain["name"])
                    stops.append(has_none)
    return [
        Finding(host=host, bad=any(stops), refusal=_of_guests(first, guests))
        for (host, *_rest), (first, guests, stops) in lacking.items()
    ]


def _lacks(domain: t.Mapping[str, t.Any], source: Snapshot, there: Snapshots) -> dict[str, list[Refusal]]:
    found = {host: resource_refusals.refusals(domain, source, snapshot) for host, snapshot in there.items()}
    return {host: refused for host, refused in found.items() if refused}


def _of_guests(first: Refusal, guests: t.Sequence[str]) -> Refusal:
    more = f"; likewise {listed(list(guests[1:]))}" if len(guests) > 1 else ""
    return refusal(first["code"], first["reason"] + more, first["remedy"])


def check_send_buffer(snapshot: Snapshot, connect: t.Mapping[str, t.Any]) -> list[Finding]:
    """What a source's TCP send buffer adds to the downtime of every guest that leaves, where that is worth a word.

    Args:
        snapshot: the source's.
        connect: how it is reached; its C(bandwidth_mib_s) is what the operator says of the migration network, and its
            C(migration_address) tells the interface whose speed counts where nobody said anything.
    """
    sysctls = snapshot.get("sysctls") or {}
    rate = _bandwidth(snapshot, connect)
    wmem, lowat = sysctls.get("net.ipv4.tcp_wmem"), sysctls.get("net.ipv4.tcp_notsent_lowat")
    advice = send_buffer.advise(rate, wmem, lowat)
    if rate is None:
        remedy = "state its bandwidth in MiB/s: kvmops_cluster_bandwidth_mib_s in the inventory"
    elif advice.limit_bytes is None:
        return []
    elif send_buffer.can_limit((snapshot.get("versions") or {}).get("kernel")):
        remedy = "permit it for a drain, in QEMU's own connection only: drain_host_tune_network=true"
    else:
        remedy = (
            f"upgrade to Linux 5.6, or limit all connections: sysctl -w net.ipv4.tcp_notsent_lowat={advice.limit_bytes}"
        )
    return [{"host": snapshot["host"], "bad": False, "refusal": refusal("send_buffer", advice.sentence, remedy)}]


def _bandwidth(snapshot: Snapshot, connect: t.Mapping[str, t.Any]) -> float | None:
    """Bytes a second of the migration network, or None where nobody knows."""
    if connect.get("bandwidth_mib_s"):
        return float(connect["bandwidth_mib_s"]) * MIB
    return interface_bytes_per_s(snapshot, connect.get("migration_address"))


class _Use(t.NamedTuple):
    """A mount that guests use, as the first of their hosts has it, and all these hosts."""

    mount: t.Mapping[str, t.Any]
    snapshot: Snapshot
    hosts: list[str]

    @property
    def source(self) -> str:
        return str(self.mount.get("source"))


def _shared_in_use(snapshots: Snapshots) -> dict[str, _Use]:
    used: dict[str, _Use] = {}
    for host, snapshot in snapshots.items():
        shared = [mount for mount in snapshot.get("mounts") or [] if mount.get("shared")]
        for domain in snapshot.get("domains") or []:
            for disk in () if is_off(domain) else domain.get("disks") or []:
                mount = _mount_of(str(disk.get("source") or ""), shared) if disk.get("shared") else None
                if mount:
                    use = used.setdefault(mount["path"], _Use(mount, snapshot, []))
                    use.hosts.extend([host] if host not in use.hosts else [])
    return used


def _mount_of(path: str, mounts: t.Iterable[t.Mapping[str, t.Any]]) -> t.Mapping[str, t.Any] | None:
    holding = [m for m in mounts if posixpath.commonpath([m["path"], path or "/"]) == m["path"]]
    return max(holding, key=lambda mount: len(mount["path"]), default=None)


def _storage_trouble(path: str, used: _Use, snapshot: Snapshot) -> Refusal | None:
    host, where = snapshot["host"], " and ".join(used.hosts)
    if host in used.hosts:
        return None
    mount = next((m for m in snapshot.get("mounts") or [] if m["path"] == path), None)
    if mount is None:
        what = f"{path} is not mounted on {host}, and guests of {where} use it"
        return refusal("storage", what, f"mount {used.source} on {path} of {host}")
    is_same = shares.same(used.mount, used.snapshot, mount, snapshot)
    if is_same:
        return None
    what = f"{path} on {host} is {mount.get('source')}, but on {where} it is {used.source}"
    if is_same is None:
        names = json.dumps([shares.server_of(used.mount), shares.server_of(mount)])
        remedy = f"mount it by one name, or, if both are one server: kvmops_cluster_same_servers: [{names}]"
        return refusal("storage", f"{what}, and nothing proves that it is the same", remedy)
    if mount.get("source") == used.source:
        return refusal(
            "storage", f"{what} of another server", "mount it from an address that means the same everywhere"
        )
    return refusal("storage", what, f"mount {used.source} on {path} of {host}")


def _no_postcopy(snapshot: Snapshot, intent: t.Mapping[str, t.Any]) -> Refusal | None:
    able = (snapshot.get("migration") or {}).get("postcopy") or {}
    resumes = (snapshot.get("migration") or {}).get("postcopy_recover") or {}
    if intent.get("allow_postcopy") == RECOVERABLE and able.get("usable") and resumes.get("usable") is False:
        why = f"post-copy is allowed where it can be resumed, but {snapshot['host']} cannot: {resumes.get('reason')}"
        return refusal("postcopy_not_recoverable", why, str(resumes.get("remedy") or "allow_postcopy: true"))
    if not intent.get("allow_postcopy") or able.get("usable") is not False:
        return None
    why = f"post-copy is allowed, but {snapshot['host']} cannot do it: {able.get('reason')}"
    return refusal("postcopy", why, str(able.get("remedy") or "allow_postcopy: false"))


def _closed(snapshot: Snapshot) -> Refusal | None:
    if is_open(snapshot):
        return None
    record = snapshot["maintenance"]
    what = "is cordoned" if record["state"] == "cordoned" else "is in maintenance"
    why = f" ({record['reason']})" if record.get("reason") else ""
    return refusal(
        "closed",
        f"{snapshot['host']} {what} by {record.get('owner') or 'someone'}{why} and takes no guests",
        "open it with the playbook kvmops.cluster.restore_host when it is healthy again",
    )


def _as_refusal(bug: t.Mapping[str, t.Any]) -> Refusal:
    return refusal(bug["code"], bug["reason"], bug.get("remedy") or "")


def _time(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))

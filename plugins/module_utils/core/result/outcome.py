# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Judge what became of a move, only from what the two libvirtds say."""

from __future__ import annotations

import dataclasses

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import RECOVER

#: libvirt's reasons of a guest that somebody has shut down, ended or saved.
SHUT_DOWN = ("shutdown", "destroyed", "saved")


@dataclasses.dataclass(frozen=True)
class Side:
    """A guest as one host's libvirtd shows it.

    Attributes:
        host: the host's name.
        reachable: whether its libvirtd answered.
        state: C(running), C(paused), C(shutoff), C(crashed), ... or C(absent).
        state_reason: libvirt's reason in one word, such as C(migrated) or C(postcopy_failed).
        persistent: whether a definition is kept there.
        migrating: whether a migration job is at work on it there.
        coming_in: whether that job brings it there.
        error: why the host did not answer, in words.
    """

    host: str
    reachable: bool
    state: str = "absent"
    state_reason: str = ""
    persistent: bool = False
    migrating: bool = False
    error: str = ""
    coming_in: bool = False

    @property
    def never_ran(self) -> bool:
        """Whether a guest that is not active there has not run there since it began to come in."""
        return self.state == "absent" or (self.state, self.state_reason) == ("shutoff", "failed")

    @property
    def ended_by_daemon(self) -> bool:
        """Whether libvirt there has ended the guest, as it could not make sense of it when it started."""
        return (self.state, self.state_reason) == ("shutoff", "daemon")

    @property
    def shut_down(self) -> bool:
        """Whether somebody has shut the guest down there, or ended it."""
        return self.state == "shutoff" and self.state_reason in SHUT_DOWN

    @property
    def split(self) -> bool:
        """Whether the guest's post-copy has broken off there: a part of its memory is on this side, the rest is not."""
        return self.state_reason == "postcopy_failed"

    @property
    def active(self) -> bool:
        """Whether a QEMU process holds the guest there."""
        return self.state not in ("absent", "shutoff")

    def describe(self) -> str:
        """The side in words, for a message."""
        if not self.reachable:
            return f"in an unknown state on {self.host}, which does not answer ({self.error})"
        if self.state == "absent":
            return f"unknown on {self.host}"
        reason = f" ({self.state_reason})" if self.state_reason else ""
        return f"{self.state}{reason} on {self.host}"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What both sides together mean.

    Attributes:
        kind: C(moved), C(stayed), C(in_flight), C(resume_source), C(off), C(lost), C(ended) or C(unclear).
        reason: in one sentence.
        remedy: what a person must do or look at. Only C(moved), C(stayed) and C(resume_source) have none.
    """

    kind: str
    reason: str
    remedy: str = ""


@dataclasses.dataclass(frozen=True)
class Seen:
    """What was seen of a guest while it was under way.

    Attributes:
        handed_over: whether it was stopped at its source for the switchover; None where nobody watched. From then on it
            may run at the destination.
        ran_there: whether it was seen running at the destination.
    """

    handed_over: bool | None = None
    ran_there: bool = False

    def may_run_there(self, source: Side) -> bool:
        """Whether a guest that runs at its source may run at a destination that says nothing.

        libvirt lets a guest go on at its source with the reason C(migration_canceled) when the answer to the switchover
        was lost (qemuMigrationSrcRestoreDomainState). One that was never stopped keeps the reason that it had.
        """
        if self.ran_there or self.handed_over is not None:
            return self.ran_there or bool(self.handed_over)
        return source.state_reason == "migration_canceled"


NOTHING_SEEN = Seen()


def judge(
    name: str, source: Side, destination: Side, *, suspended_by_us: bool = False, seen: Seen = NOTHING_SEEN
) -> Verdict:
    """Judge a move.

    Args:
        name: the guest, for the texts.
        source: what the source's libvirtd says.
        destination: what the destination's says.
        suspended_by_us: whether this move stopped the guest to finish, so that it is ours to let it go on.
        seen: what was seen of it while it was under way.

    C(moved): runs at the destination, and the source has let go.
    C(stayed): runs at the source, and the destination has nothing of it.
    C(in_flight): a migration job is still at work; wait and look again.
    C(resume_source): stopped at the source by a migration that is over, and the destination has nothing, or only a
    definition whose last start has failed. Of a guest that is to leave no definition there, having nothing proves only
    as much as the caller knows of the destination since: it forgets such a guest when it is rebooted.
    C(off): it is shut off at the source, and never ran at the destination: its QEMU or its host has died, or somebody
    has shut it down.
    C(lost): it ran at the destination without all of its memory, and the QEMU that had the rest is gone; or it was
    handed over, and nothing of it is at the destination, although it has a definition that goes along.
    C(ended): the guest runs on neither side, and neither side holds its memory.
    C(unclear): only a person can tell; touch nothing.
    """
    told = f"{name} is {source.describe()} and {destination.describe()}"
    look = f"virsh domstate --reason {quoted(name)}"
    # A post-copy that broke off keeps its job on both sides for ever, so this comes before what is still at work.
    if "postcopy_failed" in (source.state_reason, destination.state_reason):
        return _lost_half(name, source, destination, told) or _broken_postcopy(told, look)
    if not source.reachable or not destination.reachable:
        return _one_host_silent(name, source, destination, told, look, seen)
    if source.migrating or destination.migrating:
        return _in_flight(told, look)
    if "postcopy" in source.state_reason or "postcopy" in destination.state_reason:
        return _broken_postcopy(told, look)
    if destination.active:
        return (_on_both if source.active else _at_destination)(name, source, destination, told, look)
    if source.active:
        return _at_source(source, destination, told, look, suspended_by_us, seen)
    return _nowhere(name, source, destination, told, seen)


def _nowhere(name: str, source: Side, destination: Side, told: str, seen: Seen) -> Verdict:
    may_have_run_there = seen.ran_there or seen.handed_over or not destination.never_ran
    if source.state == "shutoff" and source.state_reason != "migrated" and not may_have_run_there:
        return _off(name, source, told)
    # libvirt at the source lets go of a guest once the destination has all of it. A libvirt that dies there in the
    # first moment of a post-copy ends the QEMU when it starts again (seen with 11.3: "shutting down, reason=daemon").
    sent = (source.state, source.state_reason) == ("shutoff", "migrated") and source.persistent
    if sent and (destination.never_ran or destination.ended_by_daemon):
        return _died_on_arrival(name, source, destination, told)
    return Verdict("ended", f"{told}: it runs on neither", f"see its log in /var/log/libvirt/qemu on {source.host}")


def _off(name: str, source: Side, told: str) -> Verdict:
    how = "somebody has shut it down" if source.shut_down else f"its QEMU on {source.host} has ended"
    log = f"/var/log/libvirt/qemu/{name}.log"
    # libvirt 11.3 was seen to go on waiting for a post-copy whose QEMU had died.
    lock = "; if libvirt cannot acquire its lock, restart libvirt there, while no guest moves"
    start = f"start it again if it is to run: virsh start {quoted(name)} on {source.host}"
    return Verdict("off", f"{how}: {told}", f"{start}; {log} there says how it ended{'' if source.shut_down else lock}")


def _lost_half(name: str, source: Side, destination: Side, told: str) -> Verdict | None:
    """Post-copy has broken off, and the QEMU of one side is gone with its part of the memory; None: it may not be."""
    gone, left = (source, destination) if destination.state_reason == "postcopy_failed" else (destination, source)
    if not gone.reachable or gone.active:
        return None
    # A source lets go of a guest, and of its definition, also when all of its memory has arrived.
    if gone is source and (gone.state, gone.state_reason) in (("absent", ""), ("shutoff", "migrated")):
        return None
    return Verdict(
        "lost",
        f"the memory of {name} is lost: post-copy was interrupted, and its QEMU on {gone.host}, which had a part of its"
        f" memory, has ended: {told}",
        f"nothing can be resumed. End what is left on {left.host} (virsh destroy {quoted(name)} there), then start it"
        f" anew from its disks on one host only; its log in /var/log/libvirt/qemu on {gone.host} says how it ended",
    )


def _died_on_arrival(name: str, source: Side, destination: Side, told: str) -> Verdict:
    here, there, guest = source.host, destination.host, quoted(name)
    return Verdict(
        "lost",
        f"the memory of {name} is lost: {here} has handed it over, and its QEMU on {there} has ended: {told}",
        f"see that it runs on no other host, then start it anew from its disks: virsh start {guest} on {here} (where it"
        f" no longer starts with the host: virsh autostart {guest} on {here}); its log"
        f" /var/log/libvirt/qemu/{name}.log on {there} says how it ended",
    )


def _in_flight(told: str, look: str) -> Verdict:
    return Verdict("in_flight", told, f"start and destroy nothing; look again later: {look} on both hosts")


def _broken_postcopy(told: str, look: str) -> Verdict:
    return Verdict(
        "unclear",
        f"post-copy was interrupted: {told}, and each side holds a part of its memory",
        f"destroy neither side; bring the link back, and resume it: {RECOVER} ({look} on both hosts)",
    )


def _one_host_silent(name: str, source: Side, destination: Side, told: str, look: str, seen: Seen) -> Verdict:
    if source.reachable and source.migrating:
        return _in_flight(told, look)
    if source.reachable and source.state == "running" and "postcopy" not in source.state_reason:
        # QEMU stops a guest before it hands it over, so one that was never stopped runs nowhere else.
        return _maybe_twice(name, source, destination, seen) if seen.may_run_there(source) else Verdict("stayed", told)
    silent = " and ".join(side.host for side in (source, destination) if not side.reachable)
    return Verdict("unclear", told, f"bring {silent} back, then compare {look} on both hosts; start nothing until then")


def _maybe_twice(name: str, source: Side, destination: Side, seen: Seen) -> Verdict:
    """The last answer of a destination was lost, and libvirt has let the guest go on at its source."""
    here, there = source.host, destination.host
    happened = f"it ran on {there}" if seen.ran_there else f"it was handed over to {there}"
    return Verdict(
        "unclear",
        f"URGENT: {name} may run twice, on the same disks: it is {source.describe()}, and {happened}"
        f" before that stopped answering ({destination.error})",
        f"first stop one side: pause it on {here} (virsh suspend {quoted(name)}), or switch {there} off; then see"
        f" whether it runs on {there}. If it does, its memory on {here} is older than its disks: let it not go on"
        f" there. If it never ran on {there} (its log in /var/log/libvirt/qemu there), let it go on on {here}",
    )


def _on_both(name: str, source: Side, destination: Side, told: str, look: str) -> Verdict:
    if source.state != "running" or destination.state != "running":
        return Verdict("unclear", told, f"start and destroy nothing; compare {look} on both hosts")
    here, there = source.host, destination.host
    return Verdict(
        "unclear",
        f"URGENT: {told}: it runs twice, on the same disks",
        f"pause it on {here} at once (virsh suspend {quoted(name)}), where its memory is the older one; then check the"
        f" file systems of its disks from {there}, and compare {look} on both hosts",
    )


def _at_destination(_name: str, _source: Side, destination: Side, told: str, look: str) -> Verdict:
    if destination.state == "running":
        return Verdict("moved", told)
    if destination.state == "paused" and destination.state_reason in ("migration", "starting_up"):
        return _in_flight(told, look)
    return Verdict("unclear", told, f"see why it does not run: {look} on {destination.host}")


def _at_source(source: Side, destination: Side, told: str, look: str, suspended_by_us: bool, seen: Seen) -> Verdict:
    if source.state == "running" and not seen.ran_there:
        return Verdict("stayed", told)
    if source.state == "running":
        return Verdict(
            "unclear",
            f"{told}, where it ran meanwhile, so its memory on {source.host} is older than its disks",
            f"shut it down on {source.host}, check the file systems of its disks, and only then let it run again; its"
            f" log in /var/log/libvirt/qemu on {destination.host} says how it ended there",
        )
    ours = ("migration", "unknown", "user") if suspended_by_us else ("migration", "unknown")
    if source.state != "paused" or source.state_reason not in ours:
        return Verdict("unclear", told, f"see why it does not run: {look} on {source.host}")
    if destination.state == "shutoff" and destination.state_reason != "failed":
        return Verdict(
            "unclear",
            f"{told}, where it may have run and ended since; its memory on {source.host} would then be older than its"
            " disks",
            f"start nothing and let nothing go on until its log in /var/log/libvirt/qemu on {destination.host} says how"
            " it ended there; only after 'shutting down, reason=failed' it never ran there",
        )
    return Verdict("resume_source", told)


def quoted(name: str) -> str:
    """A guest's name as it can be typed in a shell.

    >>> shown("web 1")
    "'web 1'"
    """
    if name and all(char.isalnum() or char in "-_.@+" for char in name):
        return name
    return "'" + name.replace("'", "'\\''") + "'"


def undefine_command(name: str, *, tpm: bool) -> str:
    """The command that removes a left definition. It keeps what the guest needs where it runs.

    >>> undefine_command("web1", tpm=True)
    'virsh undefine --keep-nvram --keep-tpm web1'
    """
    return f"virsh undefine --keep-nvram {'--keep-tpm ' if tpm else ''}{quoted(name)}"


def definition_faults(name: str, source: Side, destination: Side, *, persistent_before: bool) -> list[str]:
    """What is wrong with the definitions after a move, in words: one at the destination, none left at the source."""
    faults = []
    if persistent_before and not destination.persistent:
        faults.append(f"{name} has no persistent definition on {destination.host}")
    if source.state == "shutoff" and source.persistent:
        faults.append(f"{name} is still defined on {source.host}")
    return faults

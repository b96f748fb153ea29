# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Judge what became of a move, only from what the two libvirtds say."""

from __future__ import annotations

import dataclasses


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
        error: why the host did not answer, in words.
    """

    host: str
    reachable: bool
    state: str = "absent"
    state_reason: str = ""
    persistent: bool = False
    migrating: bool = False
    error: str = ""

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
        kind: C(moved), C(stayed), C(in_flight), C(resume_source), C(ended) or C(unclear).
        reason: in one sentence.
        remedy: what a person must look at, for C(unclear), C(ended) and an C(in_flight) that is awaited no longer.
    """

    kind: str
    reason: str
    remedy: str = ""


def judge(name: str, source: Side, destination: Side, *, suspended_by_us: bool = False) -> Verdict:
    """Judge a move.

    Args:
        name: the guest, for the texts.
        source: what the source's libvirtd says.
        destination: what the destination's says.
        suspended_by_us: whether this move stopped the guest to finish, so that it is ours to let it go on.

    C(moved): runs at the destination, and the source has let go.
    C(stayed): runs at the source, and the destination has nothing of it.
    C(in_flight): a migration job is still at work; wait and look again.
    C(resume_source): stopped at the source by a migration that is over, and the destination has nothing, or only a
    definition whose last start has failed. Of a guest that is to leave no definition there, having nothing proves only
    as much as the caller knows of the destination since: it forgets such a guest when it is rebooted.
    C(ended): the guest runs on neither side, and neither side holds its memory.
    C(unclear): only a person can tell; touch nothing.
    """
    seen = f"{name} is {source.describe()} and {destination.describe()}"
    look = f"virsh domstate --reason {quoted(name)}"
    # A post-copy that broke off keeps its job on both sides for ever, so this comes before what is still at work.
    if "postcopy_failed" in (source.state_reason, destination.state_reason):
        return _broken_postcopy(seen, look)
    if not source.reachable or not destination.reachable:
        return _one_host_silent(source, destination, seen, look)
    if source.migrating or destination.migrating:
        return _in_flight(seen, look)
    if "postcopy" in source.state_reason or "postcopy" in destination.state_reason:
        return _broken_postcopy(seen, look)
    if source.active and destination.active:
        return Verdict("unclear", seen, f"start and destroy nothing; compare {look} on both hosts")
    if destination.active:
        return _at_destination(destination, seen, look)
    if source.active:
        return _at_source(source, destination, seen, look, suspended_by_us)
    return Verdict("ended", f"{seen}: it runs on neither", f"see its log in /var/log/libvirt/qemu on {source.host}")


def _in_flight(seen: str, look: str) -> Verdict:
    return Verdict("in_flight", seen, f"start and destroy nothing; look again later: {look} on both hosts")


def _broken_postcopy(seen: str, look: str) -> Verdict:
    return Verdict(
        "unclear",
        f"post-copy was interrupted: {seen}, and each side holds a part of its memory",
        f"destroy neither side; bring the link back and resume the post-copy migration ({look} on both hosts)",
    )


def _one_host_silent(source: Side, destination: Side, seen: str, look: str) -> Verdict:
    if source.reachable and source.migrating:
        return _in_flight(seen, look)
    # A guest that runs at the source untouched by a migration cannot run elsewhere: QEMU stops it before handing over.
    if source.reachable and source.state == "running" and "postcopy" not in source.state_reason:
        return Verdict("stayed", seen)
    silent = " and ".join(side.host for side in (source, destination) if not side.reachable)
    return Verdict("unclear", seen, f"bring {silent} back, then compare {look} on both hosts; start nothing until then")


def _at_destination(destination: Side, seen: str, look: str) -> Verdict:
    if destination.state == "running":
        return Verdict("moved", seen)
    if destination.state == "paused" and destination.state_reason in ("migration", "starting_up"):
        return _in_flight(seen, look)
    return Verdict("unclear", seen, f"see why it does not run: {look} on {destination.host}")


def _at_source(source: Side, destination: Side, seen: str, look: str, suspended_by_us: bool) -> Verdict:
    if source.state == "running":
        return Verdict("stayed", seen)
    ours = ("migration", "unknown", "user") if suspended_by_us else ("migration", "unknown")
    if source.state != "paused" or source.state_reason not in ours:
        return Verdict("unclear", seen, f"see why it does not run: {look} on {source.host}")
    if destination.state == "shutoff" and destination.state_reason != "failed":
        return Verdict(
            "unclear",
            f"{seen}, where it may have run and ended since; its memory on {source.host} would then be older than its"
            " disks",
            f"start nothing and let nothing go on until its log in /var/log/libvirt/qemu on {destination.host} says how"
            " it ended there; only after 'shutting down, reason=failed' it never ran there",
        )
    return Verdict("resume_source", seen)


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

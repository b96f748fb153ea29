# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults, and the phases that each of them meets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: ansible-playbook's own exit status after Ctrl-C.
INTERRUPTED = 99
#: Ours, of a task that fails.
FAILED = 2

BEFORE = ("before",)
ALL = ("set-up", "disk mirror", "first pass", "later round", "switchover", "post-copy", "verify", "hand-over")


@dataclass(frozen=True)
class Expect:
    """What the operator is told.

    Attributes:
        status: of the playbook; empty: 0 if its host is empty and nobody is missing, or else 2.
        says: regular expressions, with {guest}, {waiting}, {source} and {destination}, over all that was printed.
        second_status, second_says: the same of the second run, where the fault starts one.
        split: the guest is left with a part of its memory on each host.
    """

    status: tuple[int, ...] = ()
    says: tuple[str, ...] = ()
    second_status: tuple[int, ...] = ()
    second_says: tuple[str, ...] = ()
    split: bool = False


#: What becomes of a post-copy whose link breaks: the one place to change when a playbook finishes such moves.
BROKEN_POSTCOPY = Expect(status=(FAILED,), says=("post-copy was interrupted",), split=True)
#: What becomes of one whose QEMU at one end is gone. Where nothing of it is left at either end, it is off.
LOST_IN_POSTCOPY = Expect(status=(FAILED,), says=("the memory of {guest} is lost|{guest} is off on",))


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        name: as the tables have it.
        what: in words.
        phases: those in which it tells most.
        more: others that it can meet.
        end: the host that it strikes, C(source) or C(destination).
        kills: whose QEMUs may die at that end: C(guest), C(host) (all that run there), or nobody's.
        kills_in: the phases in which it does; empty: all.
        owner: a guest whose owner acts, C(moving) or C(waiting): it may be off afterwards, or started anew.
        undefines: a guest whose definition its owner removes, or does not take along, as in C(owner).
        told: whether the playbook lives to say what became.
        lasts_s: mended after so many seconds, while the run goes on; 0: when the run is over.
        expect: what is told, by phase; C(*) for all others.
        times: how often each case runs, at least.
    """

    name: str
    what: str
    phases: tuple[str, ...]
    end: str = "source"
    kills: str = ""
    kills_in: tuple[str, ...] = ()
    owner: str = ""
    undefines: str = ""
    told: bool = True
    lasts_s: float = 0
    expect: Mapping[str, Expect] = field(default_factory=dict)
    times: int = 1
    more: tuple[str, ...] = ()

    def killed(self, phase: str) -> str:
        """Whose QEMUs may die when it strikes in this phase, as in C(kills)."""
        return self.kills if not self.kills_in or phase in self.kills_in else ""

    def expected(self, phase: str) -> Expect:
        """What is told when it strikes in this phase."""
        return self.expect.get(phase) or self.expect.get("*") or Expect()


LINK_BROKEN = {"post-copy": BROKEN_POSTCOPY}
#: A daemon that dies in post-copy may come back in time, or leave the guest split.
DAEMON_DIED = {"post-copy": Expect(split=True)}
KILLED_IN_POSTCOPY = {"post-copy": LOST_IN_POSTCOPY}
SECOND_REFUSED = {"*": Expect(status=(0,), second_status=(FAILED,), second_says=("is taken by|is cordoned by",))}

FAULTS = (
    # ---- who drives the move -----------------------------------------------------------------------------------------
    Fault(
        "controller killed",
        "SIGKILL to ansible-playbook",
        ("set-up", "first pass", "switchover", "post-copy", "hand-over"),
        told=False,
        more=("disk mirror", "later round", "verify"),
    ),
    Fault(
        "controller stopped", "SIGSTOP to it for 20 s", ("first pass",), lasts_s=20, more=("switchover", "hand-over")
    ),
    Fault(
        "job killed",
        "SIGKILL to the job on the source",
        ("set-up", "disk mirror", "switchover", "post-copy", "verify"),
        more=("first pass", "later round", "hand-over"),
    ),
    Fault("job stopped", "SIGSTOP to the job for 20 s", ("switchover",), lasts_s=20, more=("first pass", "verify")),
    Fault(
        "both killed",
        "SIGKILL to ansible-playbook and to the job",
        ("first pass", "hand-over"),
        told=False,
        more=("set-up", "disk mirror", "switchover"),
    ),
    Fault(
        "both stopped",
        "SIGSTOP to ansible-playbook and the job for 20 s",
        ("first pass",),
        lasts_s=20,
        more=("switchover",),
    ),
    Fault(
        "interrupted",
        "Ctrl-C",
        ("first pass", "hand-over"),
        expect={"*": Expect(status=(INTERRUPTED,), says=("interrupted",))},
        more=("set-up", "disk mirror", "later round", "switchover", "post-copy", "verify"),
    ),
    # ---- daemons -----------------------------------------------------------------------------------------------------
    Fault(
        "source's libvirtd killed",
        "SIGKILL; systemd starts it again",
        ("disk mirror", "first pass", "switchover", "post-copy", "hand-over"),
        expect=DAEMON_DIED,
        more=("set-up", "later round", "verify"),
    ),
    Fault(
        "destination's libvirtd killed",
        "SIGKILL; systemd starts it again",
        ("set-up", "disk mirror", "switchover", "post-copy", "verify"),
        end="destination",
        # In the first moment of a post-copy, libvirt takes the guest for one that has not arrived, and ends its QEMU.
        kills="guest",
        kills_in=("post-copy",),
        expect=DAEMON_DIED,
        more=("first pass", "later round", "hand-over"),
    ),
    Fault("source's libvirtd restarted", "systemctl restart", ("first pass",), more=("switchover", "hand-over")),
    Fault(
        "destination's libvirtd restarted",
        "systemctl restart",
        ("first pass",),
        end="destination",
        more=("set-up", "disk mirror", "switchover", "hand-over"),
    ),
    Fault("source's libvirtd gone", "stopped with its sockets", ("first pass",), more=("set-up", "hand-over")),
    Fault(
        "destination's libvirtd gone",
        "stopped with its sockets",
        ("disk mirror", "verify"),
        end="destination",
        # All have left, and one may lack what its destination could not be asked for.
        expect={"verify": Expect(status=(0, FAILED))},
        more=("set-up", "first pass", "switchover"),
    ),
    # ---- QEMU --------------------------------------------------------------------------------------------------------
    Fault(
        "source's QEMU killed",
        "SIGKILL, as the OOM killer does",
        ("set-up", "disk mirror", "first pass", "switchover", "post-copy"),
        kills="guest",
        expect=KILLED_IN_POSTCOPY,
    ),
    Fault(
        "destination's QEMU killed",
        "SIGKILL",
        ("disk mirror", "first pass", "switchover", "post-copy"),
        end="destination",
        kills="guest",
        expect=KILLED_IN_POSTCOPY,
    ),
    # ---- the link ----------------------------------------------------------------------------------------------------
    Fault(
        "link reset",
        "connections of the move are reset, and refused from then on",
        ("later round", "switchover", "post-copy"),
        "destination",
        expect=LINK_BROKEN,
        more=("disk mirror", "first pass"),
    ),
    Fault(
        "link reset for 12 s",
        "the same for 12 s",
        ("disk mirror", "first pass"),
        "destination",
        lasts_s=12,
        expect=LINK_BROKEN,
        more=("later round", "switchover", "post-copy"),
    ),
    Fault(
        "link silent",
        "packets of the move vanish",
        ("disk mirror", "first pass", "post-copy"),
        "destination",
        expect=LINK_BROKEN,
        more=("switchover",),
    ),
    Fault(
        "link flapping",
        "up for 3 s, reset for 2 s, five times",
        ("first pass", "post-copy"),
        "destination",
        lasts_s=25,
        expect=LINK_BROKEN,
        more=("disk mirror", "switchover"),
    ),
    Fault(
        "link dead one way", "packets to the destination vanish", ("first pass",), "destination", more=("switchover",)
    ),
    Fault(
        "link dead the other way",
        "packets from the destination vanish",
        ("switchover",),
        "destination",
        more=("first pass",),
    ),
    Fault(
        "migration network cut",
        "the destination's cable is pulled, libvirt's own connection with it",
        ("set-up", "switchover", "hand-over"),
        "destination",
        expect=LINK_BROKEN,
        more=("disk mirror", "first pass", "post-copy", "verify"),
    ),
    Fault(
        "management network cut for 25 s",
        "the controller does not reach the source",
        ("first pass", "hand-over"),
        lasts_s=25,
        more=("set-up", "switchover"),
    ),
    # ---- hosts -------------------------------------------------------------------------------------------------------
    Fault(
        "source without power",
        "it is off at once, and started again when the run is over",
        ("disk mirror", "first pass", "switchover", "post-copy"),
        kills="host",
        more=("set-up", "hand-over"),
    ),
    Fault(
        "destination without power",
        "it is off at once, and started again when the run is over",
        ("set-up", "disk mirror", "first pass", "switchover", "post-copy", "hand-over"),
        "destination",
        kills="host",
        more=("verify",),
    ),
    Fault("source rebooted", "systemctl reboot", ("first pass",), kills="host", more=("disk mirror",)),
    Fault(
        "destination rebooted",
        "systemctl reboot",
        ("disk mirror",),
        "destination",
        "host",
        more=("first pass", "hand-over"),
    ),
    # ---- disks -------------------------------------------------------------------------------------------------------
    Fault(
        "state folder full",
        "/var/lib/kvmops of the source takes no byte more",
        ("first pass",),
        more=("set-up", "verify"),
    ),
    Fault("image folder full", "/var/lib/libvirt/images of the destination", ("disk mirror",), "destination"),
    Fault(
        "root full",
        "/var/lib/kvmops, /root/.ansible, /tmp and /var/tmp of the source",
        ("hand-over",),
        # All have left, and the record that says so cannot be written.
        expect={"hand-over": Expect(status=(0, FAILED))},
        more=("first pass",),
    ),
    Fault("NBD refused", "new connections for disks are refused", ("set-up of disks",), "destination"),
    # ---- certificates ------------------------------------------------------------------------------------------------
    Fault("certificate expired", "of the destination's QEMU", ("set-up", "before"), "destination"),
    Fault("certificate of another name", "of the destination's QEMU", ("set-up",), "destination", more=("before",)),
    # ---- others ------------------------------------------------------------------------------------------------------
    Fault(
        "drain into each other",
        "somebody drains the destination meanwhile",
        ("first pass",),
        "destination",
        expect=SECOND_REFUSED,
        more=("set-up", "hand-over"),
    ),
    Fault(
        "second controller",
        "somebody else drains the same host",
        ("first pass",),
        expect=SECOND_REFUSED,
        more=("set-up",),
    ),
    Fault(
        "restore meanwhile",
        "somebody opens the host that is drained",
        ("first pass",),
        expect=SECOND_REFUSED,
        more=("verify",),
    ),
    # ---- owners ------------------------------------------------------------------------------------------------------
    Fault(
        "owner shuts the moving guest down",
        "virsh shutdown",
        ("first pass",),
        owner="moving",
        more=("set-up", "switchover"),
    ),
    Fault("owner shuts a waiting guest down", "virsh shutdown", ("first pass",), owner="waiting"),
    Fault("owner reboots the moving guest", "virsh reset", ("first pass",), owner="moving", more=("disk mirror",)),
    Fault(
        "owner destroys the moving guest",
        "virsh destroy",
        ("disk mirror", "first pass"),
        owner="moving",
        more=("set-up", "switchover"),
    ),
    Fault("owner destroys a waiting guest", "virsh destroy", ("first pass",), owner="waiting"),
    Fault("owner undefines the moving guest", "virsh undefine", ("first pass",), more=("hand-over",)),
    Fault("owner undefines a waiting guest", "virsh undefine", ("first pass",), undefines="waiting"),
    Fault("owner moves a waiting guest", "virsh migrate without --persistent", ("first pass",), undefines="waiting"),
    # ---- what changes between plan and move --------------------------------------------------------------------------
    Fault("memory gone", "the other hosts show no free memory", ("set-up",), "destination"),
    Fault("lease of a wrong clock", "a lease of the destination that begins tomorrow", BEFORE, "destination"),
    Fault(
        "lease garbage",
        "the lease file of the destination holds no lease",
        ("first pass",),
        "destination",
        more=("before",),
    ),
)


ANY_SECOND = Fault(
    "interrupted at any second",
    "Ctrl-C, wherever the run is by then",
    ("any second",),
    expect={"*": Expect(status=(INTERRUPTED, 0))},
    times=50,
)

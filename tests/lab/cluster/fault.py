# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Things that go wrong, on demand. Each has a way back: `mend`, `mend_line`, `power_on` for a host."""

from __future__ import annotations

from lab.common.command import run
from lab.common.errors import LabError
from lab.guest import corruption
from lab.host import credentials
from lab.layout.addresses import Network
from lab.layout.scenario import LinePlan, usual_queue_ms
from lab.line import line
from lab.machine import network

from .cluster import Cluster

MIGRATION_PORTS = "49152-49215"
TABLE = "kvmops_lab"
# The verdict is what becomes of a packet: dropped, or answered with a reset so that both ends know at once.
# Resets themselves pass, or nobody would hear them.
RULES = f"""
table inet {TABLE} {{
    chain incoming {{
        type filter hook input priority 0
        tcp flags & rst == rst accept
        tcp dport {MIGRATION_PORTS} %(verdict)s
        tcp sport {MIGRATION_PORTS} %(verdict)s
    }}
    chain outgoing {{
        type filter hook output priority 0
        tcp flags & rst == rst accept
        tcp dport {MIGRATION_PORTS} %(verdict)s
        tcp sport {MIGRATION_PORTS} %(verdict)s
    }}
}}
"""
# The same in one direction: what comes in, or what goes out.
ONE_WAY = f"""
table inet {TABLE} {{
    chain one {{
        type filter hook %(hook)s priority 0
        tcp dport {MIGRATION_PORTS} drop
        tcp sport {MIGRATION_PORTS} drop
    }}
}}
"""
CERTIFICATE = "/etc/pki/qemu/server-cert.pem"
RESET, DROP = "reject with tcp reset", "drop"


class Fault:
    """The faults of a lab."""

    def __init__(self, lab: Cluster) -> None:
        self._lab = lab

    # ---- network -----------------------------------------------------------------------------------------------------

    def _networks(self, which: str) -> list[Network]:
        networks = self._lab.networks
        chosen = [each for each in networks.all if which in (each.purpose, "all")]
        if not chosen:
            raise LabError(f"no network {which!r}", "Use migration, management, guests or all.")
        return chosen

    def cut_link(self, host: str, which: str = "migration") -> None:
        """Pull a host's cable out of a network: migration (also libvirt between hosts), management, guests or all."""
        self._lab.host(host)
        for each in self._networks(which):
            run(["ip", "link", "set", each.link(self._lab.settings.prefix, host), "down"])

    def slow_link(self, host: str, mbit: float, both: bool = False) -> None:
        """Limit the migration traffic into a host, and with `both` also into all others, that is out of it."""
        self._lab.host(host)
        names = list(self._lab.hosts) if both else [host]
        for name in names:
            network.limit(self._lab.settings, self._lab.networks.migration, name, mbit)

    def cut_migration(self, host: str, silent: bool = False) -> None:
        """Break the migration connections of a host, running ones too, while everything else still works.

        Both ends are told, as by a firewall that rejects. With `silent` packets vanish, and nobody learns anything
        until a timeout.
        """
        inside = self._inside(host)
        self.let_migration(host)
        run([*inside, "nft", "-f", "-"], given=RULES % {"verdict": DROP if silent else RESET})
        if not silent:
            # The reset answers the peer's next packet; the socket on this side has to be ended by hand.
            for side in ("sport", "dport"):
                run([*inside, "ss", "-K", "-t", f"{side} >= :49152 and {side} <= :49215"], check=False)

    def cut_one_way(self, host: str, incoming: bool) -> None:
        """Let packets of migrations vanish in one direction only: into a host, or out of it."""
        self.let_migration(host)
        run([*self._inside(host), "nft", "-f", "-"], given=ONE_WAY % {"hook": "input" if incoming else "output"})

    def let_migration(self, host: str) -> None:
        """Let migrations of a host connect again. What was broken stays broken."""
        run([*self._inside(host), "nft", "delete", "table", "inet", TABLE], check=False)

    def _inside(self, host: str) -> list[str]:
        self._lab.host(host)
        return ["ip", "netns", "exec", self._lab.settings.network_namespace(host)]

    def mend(self, host: str) -> None:
        """Undo every network fault of a host."""
        lab = self._lab
        lab.host(host)
        for each in lab.networks.all:
            run(["ip", "link", "set", each.link(lab.settings.prefix, host), "up"])
        self.let_migration(host)
        for name, each_host in lab.hosts.items():
            network.limit(lab.settings, lab.networks.migration, name, each_host.plan.link_mbit)

    # ---- the line between two sites ----------------------------------------------------------------------------------

    def _plan_of_line(self) -> LinePlan:
        plan = self._lab.scenario.line
        if plan is None:
            raise LabError("this lab has one site, and no line", "Use a scenario with `sites`.")
        return plan

    def slow_line(self, mbit: float, delay_ms: float | None = None, queue_ms: float | None = None) -> None:
        """Give the line another rate, and another delay (one way) or queue where they are named."""
        plan = self._plan_of_line()
        other = LinePlan(
            mbit=mbit,
            delay_ms=plan.delay_ms if delay_ms is None else delay_ms,
            queue_ms=usual_queue_ms(mbit) if queue_ms is None else queue_ms,
        )
        line.tell(self._lab.settings, ["set", *line.settings_words(other)])

    def cut_line(self, seconds: float = 0, *, reset: bool = False) -> None:
        """Cut the line for so many seconds, or (0) until it is mended; returns at once.

        Packets vanish, and neither end learns anything. With `reset`, TCP connections that send are reset at both ends.
        """
        self._plan_of_line()
        line.tell(self._lab.settings, line.cut_words(reset=reset, down_s=seconds, total_s=seconds))

    def flap_line(self, down_s: float, up_s: float, seconds: float = 0, *, reset: bool = False) -> None:
        """Cut the line again and again, for so many seconds in all, or (0) until it is mended; returns at once."""
        self._plan_of_line()
        if min(down_s, up_s) <= 0:
            raise LabError(f"down {down_s:g} s, up {up_s:g} s: both must be more than 0", "Use cut-line for one cut.")
        line.tell(self._lab.settings, line.cut_words(reset=reset, down_s=down_s, up_s=up_s, total_s=seconds))

    def mend_line(self) -> None:
        """End every cut of the line, and give it the rate and delay of the scenario."""
        plan = self._plan_of_line()
        line.tell(self._lab.settings, ["mend"])
        line.tell(self._lab.settings, ["set", *line.settings_words(plan)])

    # ---- hosts -------------------------------------------------------------------------------------------------------

    def power_off(self, host: str) -> None:
        """Shut a host down in good order."""
        self._lab.host(host).power_off()

    def crash(self, host: str) -> None:
        """Take the power from a host: all its guests die with it, at once."""
        self._lab.host(host).kill()

    def power_on(self, host: str) -> None:
        """Start a host again and wait until it answers. Its guests stay off, as on a real host."""
        machine = self._lab.host(host)
        machine.start(self._lab.scenario)
        machine.wait_ready()

    def reboot(self, host: str) -> None:
        """Reboot a host from inside and wait until it answers again."""
        machine = self._lab.host(host)
        before = machine.boot_id()
        machine.ssh("systemctl reboot")
        machine.wait_other_boot(before)
        machine.wait_ready()

    # ---- processes ---------------------------------------------------------------------------------------------------

    def kill_daemon(self, host: str, signal: str = "KILL") -> None:
        """Kill a host's libvirtd; systemd starts it again when somebody asks for it. The guests run on."""
        self._lab.host(host).ssh(f"systemctl kill --kill-whom=main --signal={signal} libvirtd.service", check=True)

    def kill_qemu(self, host: str, guest: str, signal: str = "KILL") -> None:
        """Kill the QEMU of one guest on one host."""
        self._lab.guest(guest)
        self._lab.host(host).ssh(f"kill -{signal} $(cat /run/libvirt/qemu/{guest}.pid)", check=True)

    # ---- certificates ------------------------------------------------------------------------------------------------

    def bad_certificate(self, host: str, name: str | None = None) -> None:
        """Give QEMUs that start on a host a certificate of another name, or (None) one that has expired."""
        plan = self._lab.host(host).plan
        text = credentials.bad_certificate(self._lab.settings, self._lab.networks, plan, name)
        self._lab.host(host).ssh_with(
            f"[ -e {CERTIFICATE}.good ] || cp -p {CERTIFICATE} {CERTIFICATE}.good; cat > {CERTIFICATE}", text
        )

    def good_certificate(self, host: str) -> None:
        """Give it its own again."""
        self._lab.host(host).ssh(f"[ ! -e {CERTIFICATE}.good ] || mv {CERTIFICATE}.good {CERTIFICATE}", check=True)

    # ---- guests ------------------------------------------------------------------------------------------------------

    def spoil_memory(self, host: str, guest: str) -> None:
        """Change a page of a guest's memory behind its back: `verify` must find it."""
        self._lab.host(host)
        corruption.spoil_page(self._lab.settings, host, guest, self._lab.guest(guest).plan.memory_mib)

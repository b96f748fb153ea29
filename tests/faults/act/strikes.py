# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How each fault is brought about, by its name in the table (plan/faults.py)."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from . import certificates, network, others, storage
from .scene import Scene

Strike = Callable[[Scene], None]
SOCKETS = "libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd-tcp.socket libvirtd-tls.socket"
STOP = f"systemctl stop {SOCKETS} libvirtd.service"
START = f"systemctl reset-failed; systemctl start {SOCKETS}; virsh -q uri"
KILL_DAEMON = "systemctl kill --kill-whom=main --signal=KILL libvirtd.service"
RESTART_DAEMON = "systemctl restart libvirtd.service"
PID = "$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' /var/lib/kvmops/apply.lease)"
#: A run lasts about so long, so that an interrupt meets every part of it.
RUN_S = 30.0


def on_source(command: str, *, wait: bool = True) -> Strike:
    """A command on the source."""
    return lambda scene: scene.shells.run(scene.source, command.replace("GUEST", scene.struck.guest), wait=wait)


def on_destination(command: str, *, wait: bool = True) -> Strike:
    """A command on the destination."""
    return lambda scene: scene.shells.run(scene.destination, command.replace("GUEST", scene.struck.guest), wait=wait)


def waiting(command: str) -> Strike:
    """A command on the source, about the guest that waits for its move."""
    return lambda scene: scene.shells.run(scene.source, command.replace("GUEST", scene.struck.waiting), wait=True)


def kill_controller(scene: Scene) -> None:
    """SIGKILL to the controller's processes."""
    scene.running.kill_all()


def stop_controller(scene: Scene) -> None:
    """SIGSTOP to them."""
    scene.running.pause()
    scene.mend.append(scene.running.go_on)


def stop_job(scene: Scene) -> None:
    """SIGSTOP to the job. What holds it in this phase is told only when the fault is over."""
    scene.shells.run(scene.source, f"kill -STOP {PID}", wait=True)
    scene.mend.append(lambda: scene.shells.run(scene.source, f"kill -CONT {PID}", wait=True))


def _both(first: Strike, second: Strike) -> Strike:
    def strike(scene: Scene) -> None:
        first(scene)
        second(scene)

    return strike


def interrupt(scene: Scene) -> None:
    """Ctrl-C."""
    scene.running.press_ctrl_c()


def interrupt_any_second(scene: Scene) -> None:
    """Ctrl-C after a random time."""
    ends = time.monotonic() + random.uniform(1.0, RUN_S)
    while time.monotonic() < ends and scene.running.is_at_work():
        time.sleep(0.1)
    if scene.running.is_at_work():
        scene.running.press_ctrl_c()


def stop_daemon(host: Callable[[Scene], str]) -> Strike:
    """Stop libvirtd with its sockets until the run is over."""

    def strike(scene: Scene) -> None:
        name = host(scene)
        scene.shells.run(name, STOP, wait=True)
        scene.mend.append(lambda: scene.shells.run(name, START, wait=True))

    return strike


def power(host: Callable[[Scene], str]) -> Strike:
    """Take the power away until the run is over."""

    def strike(scene: Scene) -> None:
        name = host(scene)
        scene.lab.fault.crash(name)
        scene.mend.append(lambda: scene.lab.fault.power_on(name))

    return strike


def reboot(host: Callable[[Scene], str]) -> Strike:
    """Reboot it. The run goes on meanwhile."""

    def strike(scene: Scene) -> None:
        name = host(scene)
        scene.shells.run(name, "systemctl reboot --force")
        scene.mend.append(lambda: scene.lab.host(name).wait_ready())

    return strike


def _source(scene: Scene) -> str:
    return scene.source


def _destination(scene: Scene) -> str:
    return scene.destination


KILL_QEMU = "kill -KILL $(cat /run/libvirt/qemu/GUEST.pid)"
STRIKES: dict[str, Strike] = {
    "controller killed": kill_controller,
    "controller stopped": stop_controller,
    "job killed": on_source(f"kill -KILL {PID}"),
    "job stopped": stop_job,
    "both killed": _both(kill_controller, on_source(f"kill -KILL {PID}")),
    "both stopped": _both(stop_controller, stop_job),
    "interrupted": interrupt,
    "interrupted at any second": interrupt_any_second,
    "source's libvirtd killed": on_source(KILL_DAEMON),
    "destination's libvirtd killed": on_destination(KILL_DAEMON),
    "source's libvirtd restarted": on_source(RESTART_DAEMON),
    "destination's libvirtd restarted": on_destination(RESTART_DAEMON),
    "source's libvirtd gone": stop_daemon(_source),
    "destination's libvirtd gone": stop_daemon(_destination),
    "source's QEMU killed": on_source(KILL_QEMU),
    "destination's QEMU killed": on_destination(KILL_QEMU),
    "link reset": network.reset,
    "link reset for 12 s": network.reset,
    "link silent": network.silence,
    "link flapping": network.flap,
    "link dead one way": network.one_way,
    "link dead the other way": network.other_way,
    "migration network cut": network.cut_migration_network,
    "management network cut for 25 s": network.cut_management,
    "source without power": power(_source),
    "destination without power": power(_destination),
    "source rebooted": reboot(_source),
    "destination rebooted": reboot(_destination),
    "state folder full": storage.fill_state,
    "image folder full": storage.fill_images,
    "root full": storage.fill_root,
    "NBD refused": network.refuse_new,
    "certificate expired": certificates.expired,
    "certificate of another name": certificates.of_another_name,
    "drain into each other": others.drain_back,
    "second controller": others.drain_too,
    "restore meanwhile": others.restore,
    "owner shuts the moving guest down": on_source("virsh -q shutdown GUEST"),
    "owner shuts a waiting guest down": waiting("virsh -q shutdown GUEST"),
    "owner reboots the moving guest": on_source("virsh -q reset GUEST"),
    "owner destroys the moving guest": on_source("virsh -q destroy GUEST"),
    "owner destroys a waiting guest": waiting("virsh -q destroy GUEST"),
    "owner undefines the moving guest": on_source("virsh -q undefine GUEST"),
    "owner undefines a waiting guest": waiting("virsh -q undefine GUEST"),
    "owner moves a waiting guest": others.move_by_hand,
    "memory gone": others.take_memory,
    "lease of a wrong clock": others.lease_of_tomorrow,
    "lease garbage": others.lease_garbage,
}
#: What must be there before the run begins.
ARRANGE: dict[str, Strike] = {
    "state folder full": storage.small_state,
    "image folder full": storage.small_images,
    "root full": storage.small_root,
}

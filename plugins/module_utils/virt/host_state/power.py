# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: asks guests to shut down, and starts guests that are shut off. No guest is ended by force.

from __future__ import annotations

import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import RECOVER, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection import VirtError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.host_state import split_marks

POLL_S = 0.5


class Power:
    """The guests of one host, by UUID.

    Attributes:
        changed: names of the guests that were asked to shut down, or were started.
        shutting_down: those that were asked, or may have been, and were not seen off since, as name and uuid. They may
            go off at any later time.
    """

    def __init__(self, connection: t.Any, host: str, *, check_mode: bool) -> None:
        self._connection = connection
        self._host = host
        self._check_mode = check_mode
        self.changed: list[str] = []
        self.shutting_down: list[dict[str, str]] = []

    def shut_down(self, uuids: t.Sequence[str], timeout_s: float) -> None:
        """Ask guests to shut down, as with a press of the power button, and wait until all have.

        Args:
            patience_s: how long to wait for all of them.

        Raises:
            VirtError: a guest is not known or would be gone, and nobody was asked; or one could not be asked, or still
                runs at the end. Those that shut down are off then.
            libvirtError: libvirt does not answer any more.
        """
        running = [domain for domain in map(self._find, uuids) if domain.isActive()]
        transient = [domain.name() for domain in running if not domain.isPersistent()]
        if transient:
            raise VirtError(
                refusal(
                    "transient",
                    f"{listed(transient)} would be gone once shut down: {self._host} has no definition of it",
                    "define it first (virsh dumpxml, virsh define)",
                )
            )
        halves = split_marks.halves(running)
        if halves:
            raise VirtError(
                refusal(
                    "postcopy",
                    f"{listed(halves)} must not be shut down in the middle of a post-copy: a part of the memory is on"
                    " another host, and both halves would be lost",
                    f"let that move end; if it broke off: {RECOVER}",
                )
            )
        if self._check_mode:
            self.changed = [domain.name() for domain in running]
            return
        failed = self._ask(running)
        self._await_end(running, failed, timeout_s)
        if failed:
            raise VirtError(
                refusal(
                    "not_asked",
                    f"{self._host} could not ask {'; '.join(failed.values())} to shut down",
                    "see /var/log/libvirt/qemu on that host, and shut it down with virsh shutdown",
                )
            )

    def _ask(self, running: list[t.Any]) -> dict[str, str]:
        """Ask each; returns by UUID who could not be asked, and why."""
        failed = {}
        for domain in running:
            # Also if the call fails, the guest may have got the request.
            self.shutting_down.append({"name": domain.name(), "uuid": domain.UUIDString()})
            try:
                domain.shutdownFlags(0)
                self.changed.append(domain.name())
            except virt.libvirt.libvirtError as error:
                if _is_on(domain):
                    failed[domain.UUIDString()] = f"{domain.name()} ({error})"
        return failed

    def _await_end(self, running: list[t.Any], failed: t.Mapping[str, str], timeout_s: float) -> None:
        """Wait for those that could be asked. The others are checked all the same."""
        deadline = time.monotonic() + timeout_s
        while True:
            running = [domain for domain in running if _is_on(domain)]
            self.shutting_down = [{"name": domain.name(), "uuid": domain.UUIDString()} for domain in running]
            names = [domain.name() for domain in running if domain.UUIDString() not in failed]
            if not names:
                return
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
        raise VirtError(
            refusal(
                "still_running",
                f"{listed(names, 5)} did not shut down within {timeout_s:g} s",
                "check why it ignores the power button (acpid or an agent in the guest), or give it more time; "
                "nothing was ended by force",
            )
        )

    def start(self, uuids: t.Sequence[str]) -> None:
        """Start guests that are shut off.

        Whoever calls has made sure that none of them runs on another host.

        Raises:
            VirtError: this host does not know one of them, or it does not start. The others are started all the same.
        """
        failed: list[str] = []
        unknown: list[VirtError] = []
        for uuid in uuids:
            try:
                domain = self._find(uuid)
            except VirtError as error:
                unknown.append(error)
                continue
            try:
                if domain.isActive():
                    continue
                if not self._check_mode:
                    domain.create()
                self.changed.append(domain.name())
            except virt.libvirt.libvirtError as error:
                failed.append(f"{domain.name()} ({error})")
        reasons = [error.refusal["reason"] for error in unknown]
        if failed:
            reasons = [f"{self._host} could not start {'; '.join(failed)}", *reasons]
            raise VirtError(
                refusal(
                    "not_started",
                    "; ".join(reasons),
                    "see /var/log/libvirt/qemu on that host, and start it with virsh start",
                )
            )
        if unknown:
            raise VirtError(refusal("no_guest", "; ".join(reasons), unknown[0].refusal["remedy"]))

    def _find(self, uuid: str) -> t.Any:
        try:
            return self._connection.lookupByUUIDString(uuid)
        except virt.libvirt.libvirtError as error:
            if error.get_error_code() != virt.libvirt.VIR_ERR_NO_DOMAIN:
                raise
            raise VirtError(
                refusal(
                    "no_guest",
                    f"{self._host} has no guest with the UUID {uuid}",
                    "find the host on which it is defined",
                )
            ) from error


def _is_on(domain: t.Any) -> bool:
    """Whether a guest runs. One that has gone from the host does not run there."""
    try:
        return bool(domain.isActive())
    except virt.libvirt.libvirtError as error:
        if error.get_error_code() != virt.libvirt.VIR_ERR_NO_DOMAIN:
            raise
        return False

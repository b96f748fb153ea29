# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: freezes a guest: its disks get a new layer each, its memory and firmware state go into
# files, and it goes on. The record is written before each step, so that the next run can end what this one has begun.

from __future__ import annotations

import contextlib
import os
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition import definition_file
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.definition_file import Definition
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import quoted
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import durable_files
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import utc_now
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import guest_look, layers, tpm_state
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.guest_look import GuestLook
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save import save_record
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save.save_record import SaveRecord
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt

#: libvirt writes the first word last, so a file that begins with it is whole.
WHOLE = b"LibvirtQemudSave"
CONTINUE, STOP = "continue", "stop"

_POLL_S = 0.1


class Freezer:
    """Freezes one guest.

    Args:
        connection: to this host's libvirtd, a writable one.
        record: of the save.
        clock, sleep: tests have their own.
    """

    def __init__(
        self,
        connection: t.Any,
        record: SaveRecord,
        clock: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = connection
        self._record = record
        self._clock = clock
        self._sleep = sleep
        self._overlays = {disk.target: disk.overlay for disk in record.disks}
        self.notes: list[str] = []

    def freeze(self, look: GuestLook) -> None:
        """Freeze the guest as the record says; the record is C(frozen) afterwards.

        Raises: VirtError, CapsuleError, libvirtError. The guest runs then as before, or the error says how it does.
        """
        self._record.write()
        if self._record["consistency"] == "memory":
            self._with_memory(look)
        elif look.is_active:
            self._while_it_runs(look)
        else:
            self._while_it_is_off(look)

    # With memory

    def _with_memory(self, look: GuestLook) -> None:
        domain = self.domain()
        self._make_layers()
        if self._record["then"] == STOP:
            domain.setAutostart(0)
        # Before the guest stops: from here on, whoever starts it starts it on the layers, which are still empty.
        self._define_on_layers()
        self._record.write(stage=save_record.SAVING, still_since=utc_now())
        began = self._clock()
        try:
            self._save(domain)
        except virt.libvirt.libvirtError:
            self.undo()
            raise
        saved_s = self._clock() - began
        try:
            self.take_parts(look)
        except Exception:
            # It must not stay off because of a file that could not be copied.
            if self._record["then"] == CONTINUE:
                self.go_on()
                self.undo()
            raise
        self._record.write(stage=save_record.SAVED, saved_s=round(saved_s, 3))
        if self._record["then"] == CONTINUE:
            restored_s = self.go_on()
            self._record.write(down_s=round(self._clock() - began, 3), restored_s=round(restored_s, 3))
        self._record.write(stage=save_record.FROZEN)

    def _save(self, domain: t.Any) -> None:
        path = self._record.memory_file
        if self._record["memory_format"] == "sparse":
            lib = virt.libvirt
            domain.saveParams(
                {lib.VIR_DOMAIN_SAVE_PARAM_FILE: path, lib.VIR_DOMAIN_SAVE_PARAM_IMAGE_FORMAT: "sparse"}, 0
            )
        else:
            domain.saveFlags(path, None, 0)

    def take_parts(self, look: GuestLook) -> None:
        """Copy NVRAM and TPM state, and write the definition, while nothing changes them."""
        self._let_qemu_read()
        running = self._connection.saveImageGetXMLDesc(self._record.memory_file, 1)
        self._write_definition(guest_look.parse(running))
        self._copy_firmware_state(look)

    def go_on(self) -> float:
        """Let the guest go on from its memory, on its new layers; returns the seconds that it took."""
        began = self._clock()
        path, name = self._record.memory_file, self._record.guest["name"]
        saved = guest_look.parse(self._connection.saveImageGetXMLDesc(path, 1))
        xml = guest_look.text(guest_look.with_layers(saved, self._overlays))
        try:
            self._connection.restoreFlags(path, xml, 0)
        except virt.libvirt.libvirtError as error:
            raise virt.VirtError(
                refusal(
                    "not_restored",
                    f"{name} was saved and could not go on: {error}",
                    "see why (journalctl -u libvirtd -u virtqemud), then run capsule_save again: it lets it go on;"
                    f" its memory is in {path}",
                ),
                error.get_error_code(),
            ) from error
        return self._clock() - began

    # Without memory

    def _while_it_runs(self, look: GuestLook) -> None:
        lib = virt.libvirt
        flags = lib.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | lib.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
        flags |= lib.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
        if self._record["consistency"] == "frozen":
            # One call: if this process dies meanwhile, libvirtd thaws the file systems all the same.
            flags |= lib.VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE
        self._record.write(stage=save_record.SAVING)
        began = self._clock()
        try:
            self.domain().snapshotCreateXML(self._snapshot_xml(look), flags)
        except virt.libvirt.libvirtError:
            self.undo()
            raise
        self._record.write(down_s=round(self._clock() - began, 3))
        self._let_qemu_read()
        self.take_parts_without_memory(look)

    def _snapshot_xml(self, look: GuestLook) -> str:
        root = guest_look.ET.Element("domainsnapshot")
        disks = guest_look.ET.SubElement(root, "disks")
        for element in look.live.findall("devices/disk/target"):
            target = element.get("dev", "")
            overlay = self._overlays.get(target)
            disk = guest_look.ET.SubElement(disks, "disk", name=target, snapshot="external" if overlay else "no")
            if overlay:
                guest_look.ET.SubElement(disk, "driver", type="qcow2")
                guest_look.ET.SubElement(disk, "source", file=overlay)
        return guest_look.text(root)

    def _while_it_is_off(self, look: GuestLook) -> None:
        self._make_layers()
        self._define_on_layers()
        self._record.write(stage=save_record.SAVING)
        self.take_parts_without_memory(look)

    def take_parts_without_memory(self, look: GuestLook) -> None:
        """Write the definition, and copy NVRAM and TPM state; the record is C(frozen) afterwards."""
        self._let_qemu_read()
        self._write_definition(None)
        self._copy_firmware_state(look)
        if self._record["then"] == STOP and not look.is_active:
            self.domain().setAutostart(0)
        self._record.write(stage=save_record.FROZEN)

    # Both

    def domain(self) -> t.Any:
        """The guest, asked for anew: libvirt makes another object of it when it is restored."""
        return self._connection.lookupByUUIDString(self._record.guest["uuid"])

    def is_saved(self) -> bool:
        """Whether the file with the memory is whole."""
        with contextlib.suppress(OSError), open(self._record.memory_file, "rb") as file:
            return file.read(len(WHOLE)) == WHOLE
        return False

    def wait_for_libvirt(self) -> None:
        """Wait until libvirt has ended what a run that died has told it to do. It ends by itself."""
        lib = virt.libvirt
        while True:
            domain = self.domain()
            try:
                if not domain.isActive() or domain.jobInfo()[0] == lib.VIR_DOMAIN_JOB_NONE:
                    return
            except lib.libvirtError:
                if not domain.isActive():
                    return
                raise
            self._sleep(_POLL_S)

    def undo(self) -> None:
        """Have the guest as it was before, where it runs on the files that it had: no layer, its own definition."""
        look = guest_look.look_at(self.domain(), secure=True)
        in_use = {disk.path for disk in look.disks}
        if look.is_active and not in_use & set(self._overlays.values()):
            self._connection.defineXML(self._record["persistent"])
            for path in self._overlays.values():
                layers.remove(path)
        if self._record["autostart"]:
            self.domain().setAutostart(1)
        # Where it is off or runs on its layers, they stay: a layer that nobody wrote to changes nothing.
        self._record.remove()

    def _make_layers(self) -> None:
        for disk in self._record.disks:
            if not os.path.lexists(disk.overlay):
                layers.make(disk.overlay, disk.path, disk.form, disk.size_bytes)

    def _define_on_layers(self) -> None:
        before = guest_look.parse(self._record["persistent"])
        self._connection.defineXML(guest_look.text(guest_look.with_layers(before, self._overlays)))

    def _let_qemu_read(self) -> None:
        group = guest_look.qemu_group(self._connection)
        for disk in self._record.disks:
            layers.let_read(disk.path, group)

    def _write_definition(self, running: t.Any) -> None:
        definition = Definition(guest_look.parse(self._record["persistent"]), running, bool(self._record["autostart"]))
        durable_files.write_bytes(f"{self._record.folder}/definition.xml", [definition_file.encoded(definition)])

    def _copy_firmware_state(self, look: GuestLook) -> None:
        if look.nvram:
            durable_files.write_bytes(f"{self._record.folder}/nvram", [_content(look.nvram, look.name)])
        if look.has_tpm:
            state = tpm_state.packed(look.uuid)
            if state is None:
                self.notes.append(f"the TPM of {look.name} has no state yet, so it starts anew")
            else:
                durable_files.write_bytes(f"{self._record.folder}/tpm.tar", [state])


def _content(path: str, name: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise virt.VirtError(
            refusal(
                "nvram_unreadable",
                f"the NVRAM of {name} in {path} cannot be read: {error.strerror or error}",
                f"see whether it is there: virsh dumpxml {quoted(name)} | grep nvram",
            )
        ) from error

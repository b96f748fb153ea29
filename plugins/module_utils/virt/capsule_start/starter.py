# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: makes a guest of a capsule: its own layers, NVRAM, TPM state, definition, and a start or a
# restore. What it makes is on record before, so that nothing half is left.

from __future__ import annotations

import contextlib
import os
import re
import shutil
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import quoted
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import durable_files
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import guest_look, layers, tpm_state
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start import start_record
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start.image_layers import Below
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start.start_record import StartRecord
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill import overlays
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.image_users import unused


class Parts(t.NamedTuple):
    """What a guest is made of, beside its definition.

    Attributes:
        below: what its own layers stand on.
        sizes: of its disks, in bytes, by target.
        nvram: content and place of its NVRAM, or None.
        tpm: the files of its TPM's state, by name, or None.
        memory: the file with its memory; None: it boots.
        exports: what its own layers stand on where the disk comes later, by target.
    """

    below: Below
    sizes: t.Mapping[str, int]
    nvram: tuple[bytes, str] | None
    tpm: t.Mapping[str, bytes] | None
    memory: str | None
    exports: t.Mapping[str, str] = {}


class Starter:
    """Starts one guest.

    Args:
        connection: to this host's libvirtd, a writable one.
        record: of the start; its C(made) names all files that are made, C(adopted) layers that were there.
    """

    def __init__(self, connection: t.Any, record: StartRecord) -> None:
        self._connection = connection
        self._record = record

    def start(self, parts: Parts, persistent: ET.Element, running: ET.Element | None) -> None:
        """Make the guest and start it. If that fails, nothing of it is left.

        Args:
            parts: what it is made of.
            persistent: the definition for its next start.
            running: the definition that goes with its memory.

        Raises: VirtError, CapsuleError, libvirtError.
        """
        self._record.write()
        try:
            self._place(parts)
            self._connection.defineXML(guest_look.text(persistent))
            if parts.memory is not None and running is not None:
                self._connection.restoreFlags(parts.memory, guest_look.text(running), 0)
            else:
                self._domain().create()
        except virt.libvirt.libvirtError as error:
            left = self.undo()
            raise self._not_started(error, left) from error
        except Exception:
            self.undo()
            raise

    def undo(self) -> list[str]:
        """Remove what was made; returns what was left, in words. A guest that runs on it is left as it is."""
        domain = guest_look.find(self._connection, self._record.guest["uuid"])
        if domain is not None and domain.isActive():
            return [f"{self._record.guest['name']} runs"]
        if domain is not None and any(layers.is_written(path) for path in self._record.layers.values()):
            # It has run. What it has written is nowhere else.
            self._record.write(stage=start_record.STARTED)
            return [f"{self._record.guest['name']} has written to its disks, so they stay"]
        lib = virt.libvirt
        if self._record["replaced"]:
            self._connection.defineXML(self._record["replaced"])
        elif domain is not None:
            flags = lib.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | getattr(lib, "VIR_DOMAIN_UNDEFINE_KEEP_TPM", 0)
            domain.undefineFlags(flags)
        made = self._record["made"]
        free = unused(self._connection, made, but=self._record.guest["uuid"])
        left = []
        for path in made:
            if path in free or path == self._tpm_folder():
                _remove(path)
            elif os.path.lexists(path):
                left.append(f"{path} stays: a guest uses it")
        for there, here in self._record["moved"]:
            with contextlib.suppress(FileNotFoundError):
                os.rename(here, there)
        self._record.remove()
        return left

    def tidy(self) -> None:
        """Remove what was moved out of the way: the guest runs from its capsule now."""
        for _there, here in self._record["moved"]:
            _remove(here)

    def _domain(self) -> t.Any:
        return self._connection.lookupByUUIDString(self._record.guest["uuid"])

    def _tpm_folder(self) -> str:
        return os.path.join(tpm_state.TPM_STATE, self._record.guest["uuid"])

    def _place(self, parts: Parts) -> None:
        group = guest_look.qemu_group(self._connection)
        for target, path in self._record.layers.items():
            if target in parts.exports:
                overlays.make(path, parts.sizes[target], parts.exports[target], "raw")
                continue
            below = parts.below[target]
            if path not in self._record["adopted"]:
                layers.make(path, below[0].path, below[0].format, parts.sizes[target])
            for layer in below:
                if layer.path:
                    layers.let_read(layer.path, group)
        for there, here in self._record["moved"]:
            os.rename(there, here)
        if parts.nvram is not None:
            content, place = parts.nvram
            durable_files.write_bytes(place, [content])
        if parts.tpm is not None:
            tpm_state.put(self._record.guest["uuid"], dict(parts.tpm))

    def _not_started(self, error: t.Any, left: t.Sequence[str]) -> virt.VirtError:
        name = self._record.guest["name"]
        rest = f" ({'; '.join(left)})" if left else ""
        return virt.VirtError(
            refusal(
                "not_started",
                f"{name} could not be started from capsule {self._record['number']}: {error}{rest}",
                f"nothing of it is left, and the capsule is as before. {_remedy(str(error), name)}",
            ),
            error.get_error_code(),
        )


def _remedy(said: str, name: str) -> str:
    """What to do about an error of libvirt's."""
    lowered = said.lower()
    if "cpu" in lowered and ("incompatible" in lowered or "not provide" in lowered or "feature" in lowered):
        return (
            "This host's CPU lacks something: choose another host, or boot it without its memory: discard_memory: true"
        )
    if "machine type" in lowered or "unsupported machine" in lowered:
        return "Upgrade QEMU on this host, or choose a host that has this machine type"
    if re.search(r"\bkvm\b", lowered):
        return "See that KVM works on this host (ls -l /dev/kvm, virt-host-validate)"
    if "memory" in lowered and "allocate" in lowered:
        return "Free memory on this host, or choose another one"
    return f"See why: journalctl -u libvirtd -u virtqemud, /var/log/libvirt/qemu/{quoted(name)}.log"


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)

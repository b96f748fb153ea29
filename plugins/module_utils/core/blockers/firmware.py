# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""TPM and NVRAM."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import Facts, Refusals
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import guest_xml


def tpm(root: ET.Element, facts: Facts) -> Refusals:
    """A TPM of the host, or a state that swtpm cannot hand over."""
    for backend in root.findall("devices/tpm/backend"):
        if backend.get("type") == "passthrough":
            device = backend.find("device")
            path = device.get("path") if device is not None else None
            yield refusal(
                "tpm_passthrough",
                f"the TPM of the host ({path or '/dev/tpm0'}) is passed through",
                "give the guest an emulated TPM (type='emulator') instead; needs a restart of the guest",
            )
        elif backend.get("type") == "emulator" and facts.tpm_shared and facts.swtpm_shared is False:
            yield refusal(
                "tpm_shared_state",
                "the state of the guest's TPM is on shared storage, and this host's swtpm cannot migrate it",
                "upgrade swtpm to 0.8 or later and restart the guest, or keep the TPM's state on local storage",
            )


def nvram(root: ET.Element, facts: Facts) -> Refusals:
    """NVRAM in something else than a file. A file is made at the destination, and QEMU sends what is in it."""
    element = root.find("os/nvram")
    if element is None or element.get("type", "file") == "file":
        return
    where = guest_xml.source(element)
    if where is not None and where in facts.local_places:
        yield refusal(
            "nvram_local",
            f"the guest's NVRAM ({where}) is on local storage ({facts.local_places[where]}), and libvirt makes only "
            "files at the destination",
            "put it into a file (<nvram type='file'>) or on shared storage; needs a restart of the guest",
        )

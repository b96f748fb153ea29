#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: capsule_fill
short_description: Get the rest of a guest's disks to the host it runs on
version_added: 0.1.0
description:
  - A guest that was moved with O(kvmops.cluster.domain_migrate#module:disks=lazy), or started before its disks were
    there, reads from its source what it needs. This module gets the rest, while the guest runs.
  - A guest that M(kvmops.cluster.capsule_start) has started before its disks gets the images of its capsule. Only what
    this host lacks is read. Each MiB is compared with the digest in the capsule before anything uses it. Then the guest
    is put on the image while it runs, and the capsule is complete on this host.
  - Makes sure of the export first. What was killed is started again. A source that does not answer is waited for.
  - A guest that was paused as its disk could not be read is resumed until it stays running.
  - At the end it proves with libvirt and with the images that nothing is at the source any more. Then the export ends.
  - It is safe to run it again after any death, on either host. It begins with what is there.
  - Shows a line every few seconds. After Ctrl-C the guest goes on, and nothing is lost.
author:
  - kvmops.cluster contributors (@kvmops)
options:
  guest:
    description: Name or UUID of the guest.
    type: str
    required: true
  rate:
    description:
      - The most that the pull may take of the link, such as V(20mbit). By default all of it.
      - What the guest reads by itself comes on top of it.
      - A disk that came by a live move is pulled by QEMU, one piece after the other. A line with a long delay is not
        filled by that.
    type: str
  wait_s:
    description: Seconds for which a source that does not answer is waited for.
    type: int
    default: 600
  progress_path:
    description: File for progress lines. The collection sets it.
    type: path
requirements:
  - python3-libnbd and qemu-utils (qemu-img) on the host, for guests that were started from a capsule
extends_documentation_fragment:
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.action_group
  - kvmops.cluster.attributes.live
  - kvmops.cluster.capsule_dir
  - kvmops.cluster.connection
  - kvmops.cluster.state_dir
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
seealso:
  - module: kvmops.cluster.capsule_export
  - module: kvmops.cluster.domain_migrate
  - module: kvmops.cluster.capsule_start
"""

EXAMPLES = r"""
- name: Get the rest of its disks here
  kvmops.cluster.capsule_fill:
    guest: db1

- name: Get the rest at half of the line, and wait for the other site for a day
  kvmops.cluster.capsule_fill:
    guest: db1
    rate: 10mbit
    wait_s: 86400
"""

RETURN = r"""
fill:
  description: What was done.
  returned: success
  type: dict
  contains:
    guest:
      description: Name and UUID of the guest.
      returned: success
      type: dict
    disks:
      description:
        - The disks of which a part was at the source, with C(target), C(path), C(pulled_bytes) and C(checked).
        - C(checked) says that what came was compared with the digests of its capsule, before the guest was put on it.
          A disk that came by a live move has none.
        - In check mode the last two are null.
      returned: success
      type: list
      elements: dict
    seconds:
      description: How long it took.
      returned: success
      type: float
    resumed:
      description: How often the guest was resumed after its disk could not be read.
      returned: success
      type: int
    restarted:
      description: What had to be started again, in words.
      returned: success
      type: list
      elements: str
    worst_read_ms:
      description: The longest mean wait of the guest's reads within a second.
      returned: success
      type: float
    faults:
      description: What is left to do although the disks are here, with C(code), C(reason) and C(remedy).
      returned: success
      type: list
      elements: dict
refusal:
  description: Why it could not go on, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
"""

import contextlib
import os
import signal
import threading
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.core import bit_rate, xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.lazy_disks import lazy_disks
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import (
    CAPSULE_DIR_ARGUMENT,
    CapsuleStore,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.run.progress import Progress
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import guest_look
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_fill.fill_run import (
    Fill,
    FillOptions,
    StoppedError,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection_pool import Connections
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import (
    CONNECTION_ARGUMENTS,
    fail,
    host_name,
    local_uri,
    run,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            **CAPSULE_DIR_ARGUMENT,
            "guest": {"type": "str", "required": True},
            "rate": {"type": "str"},
            "wait_s": {"type": "int", "default": 600},
            "progress_path": {"type": "path"},
        },
        supports_check_mode=True,
    )
    run(module, lambda: body(module))


def body(module: AnsibleModule) -> dict[str, t.Any]:
    """Fill the disks of the guest; returns the module's result."""
    given = module.params
    if given["wait_s"] < 0:
        fail(module, refusal("bad_option", f"wait_s is {given['wait_s']}", "set wait_s to 0 or more seconds"))
    options = FillOptions(bit_rate.bytes_per_s(given["rate"]) if given["rate"] else None, given["wait_s"])
    uri, store = local_uri(module), CapsuleStore(given["capsule_dir"])
    with Connections(read_only=module.check_mode) as connections:
        domain = find(connections, uri, given["guest"])
        guest = {"name": domain.name(), "uuid": domain.UUIDString()}
        if module.check_mode:
            return _forecast(domain, store, guest)
        return _fill(module, connections, uri, store, guest, options)


def find(connections: Connections, uri: str, guest: str) -> t.Any:
    """The guest with this name or UUID.

    Raises: VirtError when this host has none.
    """
    domain = guest_look.find(connections.get(uri).connection, guest)
    if domain is not None:
        return domain
    raise virt.VirtError(
        refusal("unknown_guest", f"there is no guest {guest} on this host", "see what runs here: virsh list --all")
    )


def _forecast(domain: t.Any, store: CapsuleStore, guest: dict[str, str]) -> dict[str, t.Any]:
    disks = lazy_disks(xml_text.parsed(domain.XMLDesc(0)))
    record = store.run(f"fill-{guest['uuid']}")
    found = [{"target": disk.target, "path": disk.path, "pulled_bytes": None, "checked": None} for disk in disks]
    return {"changed": bool(disks) or bool(record and not record["ended"]), "fill": _result(guest, disks=found)}


def _result(guest: dict[str, str], **known: t.Any) -> dict[str, t.Any]:
    nothing = {"disks": [], "seconds": 0.0, "resumed": 0, "restarted": [], "worst_read_ms": 0.0, "faults": []}
    return {"guest": guest, **nothing, **known}


def _fill(
    module: AnsibleModule,
    connections: Connections,
    uri: str,
    store: CapsuleStore,
    guest: dict[str, str],
    options: FillOptions,
) -> dict[str, t.Any]:
    progress, stopping, started = _progress(module.params["progress_path"]), threading.Event(), time.monotonic()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *dummy: stopping.set())
    step = {"id": "fill", "guest": guest, "destination": host_name(module)}
    record = store.run(f"fill-{guest['uuid']}")
    unfinished = bool(record and not record["ended"])

    def tell(phase: str, message: str, **figures: t.Any) -> None:
        progress.write(phase, message, step=step, **figures)

    def domain() -> t.Any:
        return connections.get(uri).connection.lookupByUUIDString(guest["uuid"])

    try:
        filled = Fill(domain, store, host_name(module), tell, stopping).run(options)
    except StoppedError:
        fail(
            module,
            refusal(
                "interrupted",
                f"it was interrupted; {guest['name']} goes on, and what has come stays",
                "run it again to see it to its end",
            ),
        )
    finally:
        progress.end()
    known = {
        "disks": filled.disks,
        "seconds": round(time.monotonic() - started, 1),
        "resumed": filled.resumed,
        "restarted": filled.restarted,
        "worst_read_ms": round(filled.worst_read_ms, 1),
        "faults": filled.faults,
    }
    for fault in filled.faults:
        module.warn(visible(f"{fault['reason']}: {fault['remedy']}"))
    return {"changed": bool(filled.disks) or bool(filled.resumed) or unfinished, "fill": _result(guest, **known)}


def _progress(path: str | None) -> Progress:
    if path:
        # Where that cannot be, nobody sees the lines, and the fill goes on all the same.
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    progress = Progress(path)
    progress.begin(os.getpid())
    return progress


if __name__ == "__main__":
    main()

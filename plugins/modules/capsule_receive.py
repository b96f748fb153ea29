#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: capsule_receive
short_description: Permit one host to send one capsule to this host
version_added: 0.1.0
description:
  - The far end's part of M(kvmops.cluster.capsule_send), which runs it by itself. You need not.
  - Says what of a capsule is missing here, and refuses a capsule that may not come.
  - With O(state=open), permits one key to start the receiver of this one capsule. The permission is a line in
    C(authorized_keys) with an end, after which C(sshd) does not take it. Lines whose time is over are removed.
  - With O(state=closed), ends the permission.
author:
  - kvmops.cluster contributors (@kvmops)
options:
  state:
    description: Whether the permission is to be there.
    type: str
    choices: [open, closed]
    default: open
  ticket:
    description: Id of the permission.
    type: str
    required: true
  user:
    description: The user whose login the sender uses on this host. Another one than root must be permitted to use
      C(sudo) without a password.
    type: str
    default: root
  public_key:
    description: The sender's key for this one send, as C(ssh-ed25519 AAAA…). Without it nothing is permitted, and only
      what is missing is told.
    type: str
  sender:
    description: Name of the host that sends.
    type: str
  sender_id:
    description: What tells that host from all others.
    type: str
    default: ''
  document:
    description: The document of the capsule as it was signed, in base64.
    type: str
  signature:
    description: Its signature, in base64.
    type: str
    default: ''
  cpu:
    description:
      - The CPU with which the memory of the capsule was saved, with C(type), C(arch), C(machine), C(mode) and C(xml).
        A capsule whose memory cannot go on here is refused before anything is sent.
      - libvirt compares CPUs over writable connections only, so check mode does not ask.
    type: dict
  guest:
    description:
      - UUID of a guest whose next capsule may come, which is not made yet. Instead of O(document).
    type: str
  needs:
    description:
      - What that capsule will need of this host (C(kvmops.capsule_needs/1)), in base64; O(signature) signs it as the
        capsule will be signed. With O(guest). What the start would refuse is refused now, before the guest stops.
    type: str
    default: ''
  start:
    description:
      - How the guest is started when its capsule is here, with C(uri), C(image_dir), C(networks) and C(allow_files) as
        options of M(kvmops.cluster.capsule_start). Without it the sender cannot have the guest started.
    type: dict
  keys:
    description: Public keys that may have signed the capsule. With any, a capsule without such a signature is refused.
    type: list
    elements: str
    default: []
  allow_older:
    description: Whether a capsule may come that is older than the last one of its guest that was here.
    type: bool
    default: false
  disks:
    description: V(later) takes the capsule without the images of its disks.
    type: str
    choices: [now, later]
    default: now
  expires_s:
    description: Seconds after which the permission ends by itself.
    type: int
    default: 86400
  seed_from:
    description:
      - A path on this host with a disk that was carried here. It is an image, or a directory with images such as a
        store of capsules.
      - What is there is hashed and copied into the store first, so that it need not be sent.
    type: path
extends_documentation_fragment:
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.action_group
  - kvmops.cluster.connection
  - kvmops.cluster.state_dir
  - kvmops.cluster.capsule_dir
  - kvmops.cluster.require_encrypted
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: partial
    details: Each run with O(public_key) makes the permission anew.
requirements:
  - python3-libnbd and qemu-utils (qemu-img) on the host
seealso:
  - module: kvmops.cluster.capsule_send
"""

EXAMPLES = r"""
- name: Say what of a capsule is missing here
  kvmops.cluster.capsule_receive:
    ticket: look-1
    sender: h1
    document: "{{ lookup('ansible.builtin.file', 'capsule.json') | b64encode }}"
  check_mode: true

- name: End a permission by hand
  kvmops.cluster.capsule_receive:
    state: closed
    ticket: 5d1f6f0e-6a1e-4a4e-9a55-2d7b1f6f7c10
"""

RETURN = r"""
there:
  description: Whether all of the capsule is here already.
  returned: success, with O(state=open)
  type: bool
wanted:
  description: The images that are missing.
  returned: success, with O(state=open)
  type: list
  elements: dict
  contains:
    image:
      description: Its name.
      returned: success
      type: str
    kind:
      description: V(disk) or V(memory).
      returned: success
      type: str
    size_bytes:
      description: Its size.
      returned: success
      type: int
    candidates:
      description: Names of the images here that it can be made from.
      returned: success
      type: list
      elements: str
    state:
      description: How far it has come in an earlier run (C(kvmops.receive_state/1)), or null.
      returned: success
      type: dict
free_bytes:
  description: What may still be written to the store.
  returned: success, with O(state=open)
  type: int
seeded:
  description: Names of the images that were taken from O(seed_from).
  returned: success, with O(state=open)
  type: list
  elements: str
far_end:
  description: How the sender reaches this host, C(port), C(host_keys) and C(user); null if nothing is permitted.
  returned: success, with O(state=open)
  type: dict
notes:
  description: What of the definition of the guest would be left out or changed here.
  returned: success, with O(guest)
  type: list
  elements: str
refusal:
  description: Why the capsule may not come, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
"""

import base64
import binascii
import os
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import capsule_document
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import sha256_of
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import (
    CAPSULE_DIR_ARGUMENT,
    REQUIRE_ENCRYPTED_ARGUMENT,
    CapsuleStore,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.saved_cpu import cpu_refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_move import (
    far_check,
    needed,
    start_on_arrival,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.ticket import Ticket
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer import permit
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.seeds import seed
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.local_connection import connected
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import (
    CONNECTION_ARGUMENTS,
    host_name,
    local_uri,
    run,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import destination


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            **CAPSULE_DIR_ARGUMENT,
            **REQUIRE_ENCRYPTED_ARGUMENT,
            "state": {"type": "str", "choices": ["open", "closed"], "default": "open"},
            "ticket": {"type": "str", "required": True},
            "user": {"type": "str", "default": "root"},
            "public_key": {"type": "str", "no_log": False},
            "sender": {"type": "str"},
            "sender_id": {"type": "str", "default": ""},
            "document": {"type": "str"},
            "cpu": {"type": "dict"},
            "guest": {"type": "str"},
            "needs": {"type": "str", "default": ""},
            "start": {"type": "dict"},
            "signature": {"type": "str", "default": ""},
            "keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "allow_older": {"type": "bool", "default": False},
            "disks": {"type": "str", "choices": ["now", "later"], "default": "now"},
            "expires_s": {"type": "int", "default": 86400},
            "seed_from": {"type": "path"},
        },
        required_if=[("state", "open", ("sender",)), ("state", "open", ("document", "guest"), True)],
        mutually_exclusive=[("document", "guest")],
        supports_check_mode=True,
    )
    os.umask(0o077)
    run(module, lambda: _closed(module) if module.params["state"] == "closed" else _opened(module))


def _closed(module: AnsibleModule) -> dict[str, t.Any]:
    if module.check_mode:
        return {"changed": False}
    return {"changed": permit.closed(module.params["ticket"], module.params["user"])}


def _opened(module: AnsibleModule) -> dict[str, t.Any]:
    given = module.params
    store = CapsuleStore(given["capsule_dir"], given["require_encrypted"])
    if given["guest"]:
        return _opened_for_next(module, store)
    document, signature = _bytes(given["document"]), _bytes(given["signature"])
    ticket = _ticket(module, sha256_of([document]))
    seeded: list[str] = []
    found = permit.looked(store, ticket, document, signature)
    if given["seed_from"] and not found["there"]:
        if not module.check_mode:
            store.prepare()
        seeded = seed(store, given["seed_from"], document, host_name(module), dry=module.check_mode)
        found = permit.looked(store, ticket, document, signature)
    far_end = None
    if given["public_key"] and not found["there"] and not module.check_mode:
        _check_cpu(module, document)
        store.prepare()
        far_end = permit.opened(ticket, given["public_key"], given["user"])
    return {"changed": bool(seeded or far_end), "seeded": seeded, "far_end": far_end, **found}


def _check_cpu(module: AnsibleModule, document: bytes) -> None:
    """Refuse memory that cannot go on with the CPU of this host."""
    if not module.params["cpu"]:
        return
    guest = capsule_document.parsed(document, "the capsule that is offered")["guest"]["name"]
    with connected(local_uri(module), read_only=False) as connection:
        why = cpu_refusal(connection, module.params["cpu"], guest, host_name(module))
    if why is not None:
        raise CapsuleError(**why)


def _opened_for_next(module: AnsibleModule, store: CapsuleStore) -> dict[str, t.Any]:
    """Permit the next capsule of a guest. What is known of it now is checked before the guest stops for it."""
    given = module.params
    permit.check_host()
    told = _bytes(given["needs"])
    needs = needed.parsed(told)
    ticket = _ticket(module, "")
    memory = store.memory_refusal(needs["guest"]["name"], ticket.name) if needs["memory"] else None
    if memory is not None:
        raise CapsuleError(**memory)
    request = start_on_arrival.request_of(ticket, needs["guest"]["uuid"], needs["number"])
    # libvirt compares CPUs over a writable connection only. Nothing is written.
    with connected(local_uri(module), read_only=False) as connection:
        far = far_check.FarHost(connection, store, ticket, given["state_dir"])
        notes = far_check.check(far, needs, told, _bytes(given["signature"]), request)
    far_end = None
    if given["public_key"] and not module.check_mode:
        store.prepare()
        far_end = permit.opened(ticket, given["public_key"], given["user"], entry=start_on_arrival.__name__)
    return {"changed": bool(far_end), "far_end": far_end, "notes": notes}


def _ticket(module: AnsibleModule, capsule: str) -> Ticket:
    given = module.params
    return Ticket(
        ticket=given["ticket"],
        capsule=capsule,
        sender=given["sender"],
        sender_id=given["sender_id"],
        name=host_name(module),
        capsule_dir=given["capsule_dir"],
        keys=tuple(given["keys"]),
        allow_older=given["allow_older"],
        host=_host(module),
        expires_at=int(time.time()) + given["expires_s"],
        guest=given["guest"] or "",
        start=given["start"],
        require_encrypted=given["require_encrypted"],
        disks=given["disks"],
    )


def _host(module: AnsibleModule) -> dict[str, t.Any]:
    with connected(local_uri(module), read_only=True) as connection:
        seen = destination.snapshot(connection, host_name(module))
    return {key: seen[key] for key in ("host", "versions", "emulators")}


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CapsuleError("bad_option", "the document or its signature is not base64", "run capsule_send") from error


if __name__ == "__main__":
    main()

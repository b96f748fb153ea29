#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: capsule_export
short_description: Let a far end read the disks of guests that leave before their disks
version_added: 0.1.0
description:
  - A guest can run at the far end before its disks are there. It reads them from its source through ssh, with a key
    that can do nothing else, and only from disks that are written to no more. There is no open port.
  - It is used in these ways. Without options, on the source, it returns how the source is reached (RV(offer)).
  - With O(offer), on the far end, it makes a key, starts a service that QEMU connects to, and returns RV(ticket).
  - With the ticket, M(kvmops.cluster.domain_migrate) and M(kvmops.cluster.plan_apply) on the source move guests with
    lazy disks.
  - With O(ticket) and O(guest), on the source, it lets that far end read the disks of a capsule, and returns
    RV(export), with which M(kvmops.cluster.capsule_start) starts the guest before its disks have come.
  - With O(ended), on the source, it ends the export of a guest's disks. M(kvmops.cluster.capsule_fill) does so itself
    when the disks are at the far end.
author:
  - kvmops.cluster contributors (@kvmops)
options:
  address:
    description: Address of the source's sshd, as the far end reaches it. By default its name.
    type: str
  offer:
    description: What this module returned on the source.
    type: dict
  ticket:
    description: What this module returned at the far end.
    type: dict
  guest:
    description: Name or UUID of the guest of the capsule whose disks the far end may read.
    type: str
  number:
    description: Number of that capsule. By default the newest one of the guest that is here.
    type: int
  ended:
    description: UUID of a guest whose disks no far end needs any more.
    type: str
extends_documentation_fragment:
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.action_group
  - kvmops.cluster.capsule_dir
  - kvmops.cluster.connection
  - kvmops.cluster.state_dir
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - Each O(offer) makes a new ticket. An export that is there is left alone.
seealso:
  - module: kvmops.cluster.capsule_fill
"""

EXAMPLES = r"""
- name: Ask the source how it is reached
  kvmops.cluster.capsule_export:
    address: 10.1.0.11
  delegate_to: h1
  register: source

- name: Get a ticket of the far end
  kvmops.cluster.capsule_export:
    offer: "{{ source.offer }}"
  delegate_to: h2
  register: far_end

- name: Let it read the disks of the newest capsule of db1
  kvmops.cluster.capsule_export:
    ticket: "{{ far_end.ticket }}"
    guest: db1
  delegate_to: h1
  register: exported

- name: Move the guest before its disks
  kvmops.cluster.domain_migrate:
    guest: db1
    destination: h2
    destination_uri: qemu+ssh://root@h2/system
    allow_storage_copy: true
    disks: lazy
    tickets:
      h2: "{{ far_end.ticket }}"
  delegate_to: h1

- name: Get the rest of its disks
  kvmops.cluster.capsule_fill:
    guest: db1
  delegate_to: h2
"""

RETURN = r"""
offer:
  description: How this host is reached as a source. Null with O(offer) or O(ended).
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      returned: success
      type: str
    address:
      description: Where its sshd is reached.
      returned: success
      type: str
    port:
      description: Port of its sshd.
      returned: success
      type: int
    user:
      description: Who logs in.
      returned: success
      type: str
    host_keys:
      description: Public keys of its sshd.
      returned: success
      type: list
      elements: str
ticket:
  description:
    - Whom the source lets in, and where QEMU on this host finds the disks. It has no secret.
    - Null without O(offer), and in check mode.
  returned: success
  type: dict
export:
  description: Which disks the far end may read, with C(ticket), C(guest), C(number), C(digest) and C(disks) (C(target),
    C(slot), C(image), C(size_bytes)). Null without O(guest).
  returned: success
  type: dict
refusal:
  description: Why not, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import (
    CAPSULE_DIR_ARGUMENT,
    CapsuleStore,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.local_connection import connected
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import (
    CONNECTION_ARGUMENTS,
    host_name,
    local_uri,
    run,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill import chain_proof, exports
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill.capsule_exports import of_capsule
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill.tickets import Tickets, offer_of, qemu_user

#: The far end logs in as root: only root may read the disks.
USER = "root"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            **CAPSULE_DIR_ARGUMENT,
            "address": {"type": "str"},
            "offer": {"type": "dict"},
            "ticket": {"type": "dict"},
            "guest": {"type": "str"},
            "number": {"type": "int"},
            "ended": {"type": "str"},
        },
        mutually_exclusive=[("address", "offer", "ended", "ticket")],
        required_together=[("ticket", "guest")],
        required_by={"number": "guest"},
        supports_check_mode=True,
    )
    run(module, lambda: body(module))


def body(module: AnsibleModule) -> dict[str, t.Any]:
    """Offer, accept or end; returns the module's result."""
    given, store = module.params, CapsuleStore(module.params["capsule_dir"])
    if given["offer"]:
        return _accept(module, store)
    nothing = {"offer": None, "ticket": None, "export": None}
    if given["guest"]:
        changed, export = of_capsule(store, given["ticket"], given["guest"], given["number"], module.check_mode)
        return {**nothing, "changed": changed, "export": export}
    if given["ended"]:
        return {**nothing, "changed": _end(module, store, given["ended"])}
    name = host_name(module)
    return {**nothing, "changed": False, "offer": exports.offer(name, given["address"] or name, USER)}


def _accept(module: AnsibleModule, store: CapsuleStore) -> dict[str, t.Any]:
    offer = offer_of(module.params["offer"])
    if module.check_mode:
        return {"changed": True, "offer": None, "ticket": None, "export": None}
    with connected(local_uri(module), read_only=True) as connection:
        owner = qemu_user(connection.getCapabilities())
        tickets = Tickets(store)
        tickets.sweep(lambda ticket: chain_proof.is_used(connection, ticket))
    accepted = tickets.accept(offer, owner, host_name(module))
    return {"changed": True, "offer": None, "ticket": accepted, "export": None}


def _end(module: AnsibleModule, store: CapsuleStore, uuid: str) -> bool:
    record = store.run(f"export-{uuid}")
    if record is None or record["ended"]:
        return False
    if not module.check_mode:
        exports.Exports(store).end(uuid)
    return True


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: capsule_move
short_description: Move a guest with its memory over a slow link
version_added: 0.1.0
description:
  - Stops a guest, saves it as a capsule, sends what the other host lacks of it, and starts it there. This host and the
    other one do all that without the controller, so that the guest stands still as short as can be.
  - The guest is stopped only when the other host has answered over the link, and has refused nothing that is known of
    the guest before.
  - The shorter it is to stand still, the more of it should be there before. Send a capsule of it first, with
    M(kvmops.cluster.capsule_save) and M(kvmops.cluster.capsule_send), while it runs.
  - If the other host says that the guest does not run there, it goes on here. Here its definition is removed only when
    the other host runs it. If nobody can tell whether it runs there, it stays off here; run the module again.
author:
  - kvmops.cluster contributors (@kvmops)
options:
  guest:
    description: Name or UUID of the guest.
    type: str
    required: true
  to:
    description: Name of the host in the inventory to which it goes.
    type: str
    required: true
  rate:
    description:
      - How much of the link may be used, in bits per second, with headers, such as V(384kbit) or V(2mbit).
      - By default there is no limit.
    type: str
  balloon:
    description: Whether memory that the guest does not need is taken before, and given back at once.
    type: bool
    default: true
  sign_with:
    description: File of an ssh key on this host with which the capsule is signed.
    type: path
  keys:
    description:
      - Public keys that may have signed the capsule, each with the content of a C(.pub) file. With any, the other host
        refuses a capsule without such a signature.
      - By default, the variable C(kvmops_cluster_capsule_signers) of the other host.
    type: list
    elements: str
    default: []
  trust_domain:
    description: Blocks are compared only with those of capsules in the same trust domain.
    type: str
    default: default
  retry_s:
    description:
      - Seconds for which it is tried again after the last progress. The guest stands still meanwhile, and then goes on
        here.
    type: int
    default: 600
  wait_s:
    description: Seconds for which the other host waits until the guest is of use.
    type: int
    default: 120
  image_dir:
    description:
      - Where the other host makes the files to which the guest writes.
      - By default, the variable C(kvmops_cluster_capsule_image_dir) of that host, else C(/var/lib/libvirt/images).
    type: path
  networks:
    description:
      - Names of bridges and networks here, with those that are to be used on the other host.
      - By default, the variable C(kvmops_cluster_capsule_networks) of that host.
    type: dict
  allow_files:
    description:
      - Patterns of files of the other host that the definition may name.
      - By default, the variable C(kvmops_cluster_capsule_files) of that host.
    type: list
    elements: str
  ticket:
    description: Set by the action of this module.
    type: str
  join:
    description: Set by the action of this module.
    type: bool
    default: false
  far_end:
    description: Set by the action of this module.
    type: dict
    suboptions:
      name:
        description: Name of the host.
        type: str
        required: true
      address:
        description: Where its sshd is.
        type: str
        required: true
      port:
        description: Port of its sshd.
        type: int
        default: 22
      user:
        description: Who logs in there.
        type: str
        default: root
      host_keys:
        description: Public keys of its sshd.
        type: list
        elements: str
        default: []
      link_bytes_per_s:
        description: What the link carries.
        type: float
  progress_path:
    description: Set by the action of this module.
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
    support: full
requirements:
  - python3-libnbd and qemu-utils (qemu-img) on both hosts, and ssh from this host to the other one
seealso:
  - module: kvmops.cluster.capsule_plan
  - module: kvmops.cluster.capsule_send
  - module: kvmops.cluster.domain_migrate
"""

EXAMPLES = r"""
- name: Have most of it there before it stops
  kvmops.cluster.capsule_save:
    guest: db1

- name: Send that while it runs
  kvmops.cluster.capsule_send:
    guest: db1
    to: [h3]
    rate: 384kbit

- name: Move it
  kvmops.cluster.capsule_move:
    guest: db1
    to: h3
    rate: 384kbit
"""

RETURN = r"""
guest:
  description: Name and UUID of the guest.
  returned: both on success and on failure, once the guest was found
  type: dict
number:
  description: Number of the capsule with which it moved.
  returned: both on success and on failure, once it was saved
  type: int
  sample: 7
digest:
  description: Digest of that capsule.
  returned: both on success and on failure, once it was saved
  type: str
  sample: sha256:9c1f…
destination:
  description: The other host.
  returned: both on success and on failure, once it was saved
  type: str
  sample: h3
state:
  description:
    - V(moved), V(would_move) (check mode), V(back) (it runs here again), V(stopped) (it is off here, and surely at the
      other host) or V(unclear) (it is off here, and nobody can tell whether it runs there).
  returned: both on success and on failure, once it was saved
  type: str
  sample: moved
down_s:
  description: Seconds for which the guest stood still.
  returned: both on success and on failure, once it was saved
  type: float
  sample: 6.8
down_forecast_s:
  description: Seconds that the save alone would take, in check mode.
  returned: in check mode
  type: float
  sample: 0.9
useful_after_s:
  description: Seconds from its stop until it was of use at the other host; null if it was not within O(wait_s).
  returned: both on success and on failure, once it was saved
  type: float
  sample: 7.4
useful_by:
  description:
    - What has shown that it is of use. V(disk) is a read or write that has ended, V(quiet) that it had none for two
      seconds, with its memory and its disks there. A guest with an agent has answered as well, V(agent and disk) or
      V(agent and quiet).
  returned: both on success and on failure, once it was saved
  type: str
  sample: agent and disk
bytes_out:
  description: Bytes on the link towards the other host, with headers.
  returned: both on success and on failure, once it was saved
  type: int
bytes_back:
  description: Bytes on the link back.
  returned: both on success and on failure, once it was saved
  type: int
seconds:
  description: Seconds that sending and starting took.
  returned: both on success and on failure, once it was saved
  type: float
interruptions:
  description: How often the connection ended before the end.
  returned: both on success and on failure, once it was saved
  type: int
images:
  description: What was sent and avoided, by image, as M(kvmops.cluster.capsule_send) returns it.
  returned: both on success and on failure, once it was saved
  type: list
  elements: dict
notes:
  description: What an operator should know.
  returned: both on success and on failure, once it was saved
  type: list
  elements: str
refusal:
  description: Why the guest is not at the other host, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
"""

import base64
import contextlib
import os
import signal
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.core.bit_rate import bytes_per_s
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import (
    CAPSULE_DIR_ARGUMENT,
    REQUIRE_ENCRYPTED_ARGUMENT,
    CapsuleStore,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.run.progress import Progress
from ansible_collections.kvmops.cluster.plugins.module_utils.run.runner import Stop
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import guest_look
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.nbd_server import require_nbd
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.signature import signed
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_move import needed, running_move
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_move.cut_over import Move, MoveRequest
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save.saving import SaveRequest, save
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.ssh_client import FarEnd, SendKey
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.send import sender_id
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.local_connection import connected
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import (
    CONNECTION_ARGUMENTS,
    host_name,
    local_uri,
    run,
)

_FAR_END = {
    "name": {"type": "str", "required": True},
    "address": {"type": "str", "required": True},
    "port": {"type": "int", "default": 22},
    "user": {"type": "str", "default": "root"},
    "host_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "link_bytes_per_s": {"type": "float"},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            **CAPSULE_DIR_ARGUMENT,
            **REQUIRE_ENCRYPTED_ARGUMENT,
            "guest": {"type": "str", "required": True},
            "to": {"type": "str", "required": True},
            "rate": {"type": "str"},
            "balloon": {"type": "bool", "default": True},
            "sign_with": {"type": "path", "no_log": False},
            "keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "trust_domain": {"type": "str", "default": "default"},
            "retry_s": {"type": "int", "default": 600},
            "wait_s": {"type": "int", "default": 120},
            "image_dir": {"type": "path"},
            "networks": {"type": "dict"},
            "allow_files": {"type": "list", "elements": "str"},
            "ticket": {"type": "str"},
            "join": {"type": "bool", "default": False},
            "far_end": {"type": "dict", "options": _FAR_END},
            "progress_path": {"type": "path"},
        },
        supports_check_mode=True,
    )
    os.umask(0o077)
    run(module, lambda: _done(module))


def _done(module: AnsibleModule) -> dict[str, t.Any]:
    if module.params["join"]:
        return _with_progress(module, _joined)
    if module.params["far_end"] is None:
        return _offer(module)
    return _would_move(module) if module.check_mode else _with_progress(module, _moved)


def _offer(module: AnsibleModule) -> dict[str, t.Any]:
    """What the far end must know and permit, before the guest is stopped. All that can be refused here is."""
    given = module.params
    if given["rate"] is not None:
        bytes_per_s(given["rate"])
    require_nbd()
    with connected(local_uri(module), read_only=True) as connection:
        store = CapsuleStore(given["capsule_dir"], given["require_encrypted"])
        earlier = _earlier(connection, store, given)
        if earlier is not None:
            return earlier
        domain = guest_look.find_or_fail(connection, given["guest"], host_name(module))
        guest = {"name": domain.name(), "uuid": domain.UUIDString()}
        now = running_move.running(store, guest["uuid"])
        if now is not None:
            if now.to != given["to"] or module.check_mode:
                raise running_move.busy(store, guest, host_name(module))
            return {"changed": False, "guest": guest, "offer": None, "running": {"pid": now.pid, "at": now.at}}
        if domain.isActive():
            save(connection, store, _save_request(module, check=True))
        needs = needed.needs(connection, domain, store, host_name(module), given["state_dir"])
    told = needed.encoded(needs)
    signature = signed(told, given["sign_with"]) if given["sign_with"] else b""
    key = SendKey(given["ticket"]).make() if given["ticket"] and not module.check_mode else None
    offer = {"sender_id": sender_id(), "public_key": key, "needs": _text(told), "signature": _text(signature)}
    return {"changed": False, "guest": needs["guest"], "offer": offer}


def _earlier(connection: t.Any, store: CapsuleStore, given: dict[str, t.Any]) -> dict[str, t.Any] | None:
    """What is known of a guest that an earlier run has just moved there; None: the guest is here, or nothing is known.

    It was here when this run was planned.
    """
    uuid, to = given["guest"], given["to"]
    if guest_look.find(connection, uuid) is not None:
        return None
    told = {"changed": False, "guest": {"name": uuid, "uuid": uuid}, "offer": None}
    now = running_move.running(store, uuid)
    if now is not None and now.to == to:
        return {**told, "running": {"pid": now.pid, "at": now.at}}
    result = running_move.moved_before(store, uuid, to)
    return None if result is None else {**told, "result": result}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _save_request(module: AnsibleModule, check: bool) -> SaveRequest:
    given = module.params
    return SaveRequest(
        guest=given["guest"],
        host=host_name(module),
        consistency=None,
        balloon=given["balloon"],
        then="stop",
        sign_with=given["sign_with"],
        trust_domain=given["trust_domain"],
        state_dir=given["state_dir"],
        check=check,
    )


def _would_move(module: AnsibleModule) -> dict[str, t.Any]:
    given = module.params
    with connected(local_uri(module), read_only=True) as connection:
        found = save(
            connection,
            CapsuleStore(given["capsule_dir"], given["require_encrypted"]),
            _save_request(module, check=True),
        )
    return {
        **{key: found[key] for key in ("changed", "guest", "number", "digest", "down_forecast_s", "notes")},
        "destination": given["far_end"]["name"],
        "state": "would_move",
    }


def _with_progress(
    module: AnsibleModule, work: t.Callable[[AnsibleModule, Progress, Stop], dict[str, t.Any]]
) -> dict[str, t.Any]:
    """Do it with lines for the operator, and end it in order where the operator wants that."""
    path, stop = module.params["progress_path"], Stop()
    if path:
        # Where that cannot be, nobody sees the lines, and the move goes on all the same.
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    progress = Progress(path)
    progress.begin(os.getpid())
    # A lost session says nothing about what its operator wants; an interrupt and a termination do.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.on_signal)
    try:
        result = work(module, progress, stop)
    finally:
        progress.end()
    if result.get("refusal") is not None:
        module.fail_json(msg=sentence(result["refusal"]), **result)
    return result


def _joined(module: AnsibleModule, progress: Progress, stop: Stop) -> dict[str, t.Any]:
    """Wait for an earlier run that moves the guest; its result is this one's."""
    given = module.params
    found = running_move.followed(
        CapsuleStore(given["capsule_dir"], given["require_encrypted"]), given["guest"], progress, stop.stopping.is_set
    )
    if found is None:
        # It died. The action begins anew.
        return {"changed": False, "ended": True}
    return {**found, "notes": [*found["notes"], "an earlier run of capsule_move has done it"]}


def _moved(module: AnsibleModule, progress: Progress, stop: Stop) -> dict[str, t.Any]:
    given, end = module.params, module.params["far_end"]
    request = MoveRequest(
        guest=given["guest"],
        host=host_name(module),
        balloon=given["balloon"],
        sign_with=given["sign_with"],
        trust_domain=given["trust_domain"],
        state_dir=given["state_dir"],
        rate=given["rate"],
        retry_s=given["retry_s"],
        wait_s=given["wait_s"],
        link_bytes_per_s=end["link_bytes_per_s"],
    )
    far_end = FarEnd(end["name"], end["address"], end["port"], end["user"], tuple(end["host_keys"]), given["ticket"])
    key = SendKey(given["ticket"])
    try:
        with connected(local_uri(module), read_only=False) as connection:
            store = CapsuleStore(given["capsule_dir"], given["require_encrypted"])
            store.prepare()
            earlier = running_move.moved_before(store, given["guest"], end["name"])
            if earlier is not None and guest_look.find(connection, given["guest"]) is None:
                return earlier
            domain = guest_look.find_or_fail(connection, given["guest"], request.host)
            guest = {"name": domain.name(), "uuid": domain.UUIDString()}
            request = request._replace(guest=guest["uuid"], name=guest["name"])
            with running_move.only_one(store, guest, request.host, end["name"], given["progress_path"]) as ended:
                result = Move(connection, store, request, far_end, key, progress, stop.stopping.is_set).run()
                ended(result)
                return result
    finally:
        key.remove()


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: capsule_send
short_description: Send a capsule to other hosts
version_added: 0.1.0
description:
  - Sends a capsule of this host to one or many other hosts. It sends only what the other host provably does not have,
    at a rate that you set.
  - Goes on after any interruption. What has come and is right is not sent again. It connects again by itself, and so
    does a later run.
  - A host that has the capsule already is sent nothing.
  - The other host checks the capsule before anything is sent. It refuses one that is forged, that is older than the
    last one, that it could not start (because of its QEMU, its libvirt or its CPU), or for which it has no room.
  - Where C(kvmops_cluster_capsule_require_encrypted) of the other host is true, it refuses memory of guests if its
    store is not encrypted.
  - What is damaged or lost of a capsule that the other host has comes anew.
  - The capsule goes from host to host, not through the controller. This host logs in at the other one with a key that
    was made for this one send, and that starts nothing but the receiver of this capsule.
  - Each segment that was sent is read back at the other host and compared with its digest. What the other host keeps of
    an earlier image is not read again while that file has the inode, size and time that it had when it was hashed;
    M(kvmops.cluster.capsule_verify) reads all of it.
author:
  - kvmops.cluster contributors (@kvmops)
options:
  guest:
    description: Name or UUID of the guest.
    type: str
    required: true
  number:
    description: Number of the capsule. By default the newest one of the guest that is here.
    type: int
  to:
    description:
      - Names of the hosts in the inventory that are to have it.
      - They are served side by side, eight at a time. One that cannot be reached keeps no other one waiting.
      - Each of them is sent a copy of its own. With O(via) it leaves this host once.
    type: list
    elements: str
    required: true
  rate:
    description:
      - How much of the link may be used, in bits per second, with headers, such as V(384kbit), V(2mbit) or V(1gbit).
        All hosts that are served side by side share it.
      - With O(via), each of the two links may use that much.
      - By default there is no limit.
    type: str
  via:
    description:
      - One of the hosts in O(to), which passes the capsule on to the others. This host sends it once.
    type: str
  seed_from:
    description:
      - A path on the other host with a disk that was carried there. It is an image, or a directory with images, such as
        the store of capsules of this host (C(capsule_dir)).
      - What is there is hashed and taken into the store of the other host. It is never sent.
    type: path
  keys:
    description:
      - Public keys that may have signed the capsule, each with the content of a C(.pub) file.
      - With any, the other host refuses a capsule without such a signature.
    type: list
    elements: str
    default: []
  allow_older:
    description:
      - Whether the other host may take a capsule that is older than the last one of the guest that it has had.
    type: bool
    default: false
  trust_domain:
    description:
      - The trust domain of the capsule. A capsule of another one is refused.
      - By default it is not checked. Blocks are compared only with those of capsules in the same trust domain in any
        case.
    type: str
  disks:
    description:
      - V(later) leaves out the images of its disks. M(kvmops.cluster.capsule_start) starts the guest before they have
        come, with O(kvmops.cluster.capsule_start#module:lazy), and M(kvmops.cluster.capsule_fill) gets them.
      - Run again with V(now), it sends what is missing.
    type: str
    choices: [now, later]
    default: now
  retry_s:
    description:
      - For so many seconds after the last progress it is tried again to reach the other host.
      - A host that has never answered is given up after two minutes.
    type: int
    default: 86400
  ticket:
    description: Id of the permissions at the other hosts. The part of this module on the controller sets it.
    type: str
  far_ends:
    description: How the other hosts are reached. The part of this module on the controller sets it.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the host.
        type: str
        required: true
      address:
        description: Where its sshd is reached.
        type: str
        required: true
      port:
        description: Where its sshd listens.
        type: int
        default: 22
      user:
        description: Who logs in.
        type: str
        default: root
      host_keys:
        description: Its public host keys. Without them nothing is sent, and what would be is told.
        type: list
        elements: str
        default: []
      link_bytes_per_s:
        description: What the link carries.
        type: float
      wanted:
        description: What it lacks, as M(kvmops.cluster.capsule_receive) has told.
        type: dict
        required: true
  progress_path:
    description: Where the lines for the controller are written. The part of this module on the controller sets it.
    type: path
extends_documentation_fragment:
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.action_group
  - kvmops.cluster.attributes.live
  - kvmops.cluster.connection
  - kvmops.cluster.state_dir
  - kvmops.cluster.capsule_dir
attributes:
  check_mode:
    support: full
    details: It tells for each host what would be sent and what is avoided.
  diff_mode:
    support: none
  idempotent:
    support: full
requirements:
  - python3-libnbd and qemu-utils (qemu-img) on all hosts
  - python3-zstandard on all hosts, for better compression
notes:
  - The inventory variable C(kvmops_cluster_migration_address) of a host is where its capsules are sent, as its guests
    are. Without it C(ansible_host) is used.
  - Where O(via) is set, or a host of O(to) is not one of the play, that host is reached with the variables that the
    inventory has of it.
seealso:
  - module: kvmops.cluster.capsule_save
  - module: kvmops.cluster.capsule_receive
"""

EXAMPLES = r"""
- name: Send the newest capsule of db1 over a thin line
  kvmops.cluster.capsule_send:
    guest: db1
    to: [h3]
    rate: 384kbit

- name: Say what that would put on the line
  kvmops.cluster.capsule_send:
    guest: db1
    to: [h3]
  check_mode: true

- name: Send a golden machine to three hosts of another site, over the line between the sites once
  kvmops.cluster.capsule_send:
    guest: golden
    to: [b1, b2, b3]
    via: b1
    rate: 20mbit

- name: Send what has changed since a disk was carried there
  kvmops.cluster.capsule_send:
    guest: db1
    to: [h3]
    seed_from: /media/carried/capsules
"""

RETURN = r"""
guest:
  description: Name and UUID of the guest.
  returned: success
  type: dict
number:
  description: Number of the capsule.
  returned: success
  type: int
  sample: 7
digest:
  description: Digest of the capsule.
  returned: success
  type: str
  sample: sha256:9c1f…
hosts:
  description: What became of it, by host.
  returned: both on success and on failure, once the capsule was found
  type: list
  elements: dict
  contains:
    host:
      description: Name of the host.
      returned: always
      type: str
      sample: h3
    outcome:
      description: V(sent), V(there) (it had all of it), V(would_send) (check mode), V(refused) or V(failed).
      returned: always
      type: str
      sample: sent
    source:
      description: The host that has sent it, this one or O(via).
      returned: always
      type: str
      sample: h1
    sent:
      description: Bytes of blocks that were sent, before compression.
      returned: always
      type: int
    avoided_by:
      description: Bytes that were not sent, by why, C(base), C(zero), C(balloon), C(previous) and C(hash).
      returned: always
      type: dict
    full_because:
      description: Why nothing of an image could be avoided by what the host has, a sentence for each such image.
      returned: always
      type: list
      elements: str
    bytes_out:
      description: Bytes on the link towards that host, with headers and what was sent again.
      returned: always
      type: int
    bytes_back:
      description: Bytes on the link back.
      returned: always
      type: int
    seconds:
      description: Seconds that it took.
      returned: always
      type: float
    resumed_bytes:
      description: Bytes of images that had come in an earlier run, or before an interruption.
      returned: always
      type: int
    interruptions:
      description: How often the connection ended before the end.
      returned: always
      type: int
    images:
      description: The same by image, C(what) it is of the guest, C(image) (its name), C(image_bytes), C(send_bytes),
        C(digest_bytes), C(avoided_by), C(full_because) and C(resumed_bytes).
      returned: always
      type: list
      elements: dict
    seeded:
      description: Names of the images that were taken from O(seed_from).
      returned: always
      type: list
      elements: str
    refusal:
      description: Why it was not sent, with C(code), C(reason) and C(remedy); null if it was.
      returned: always
      type: dict
offer:
  description: What the part on the controller needs, without O(far_ends).
  returned: success
  type: dict
refusal:
  description: Why nothing could be sent, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
"""

import base64
import contextlib
import os
import signal
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import (
    CAPSULE_DIR_ARGUMENT,
    CapsuleStore,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.run.progress import Progress
from ansible_collections.kvmops.cluster.plugins.module_utils.run.runner import Stop
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.ssh_client import SendKey
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer import send_run
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import (
    CONNECTION_ARGUMENTS,
    host_name,
    run,
)

_FAR_END = {
    "name": {"type": "str", "required": True},
    "address": {"type": "str", "required": True},
    "port": {"type": "int", "default": 22},
    "user": {"type": "str", "default": "root"},
    "host_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "link_bytes_per_s": {"type": "float"},
    "wanted": {"type": "dict", "required": True},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            **CAPSULE_DIR_ARGUMENT,
            "guest": {"type": "str", "required": True},
            "number": {"type": "int"},
            "to": {"type": "list", "elements": "str", "required": True},
            "rate": {"type": "str"},
            "via": {"type": "str"},
            "seed_from": {"type": "path"},
            "keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "allow_older": {"type": "bool", "default": False},
            "trust_domain": {"type": "str"},
            "disks": {"type": "str", "choices": ["now", "later"], "default": "now"},
            "retry_s": {"type": "int", "default": 86400},
            "ticket": {"type": "str"},
            "far_ends": {"type": "list", "elements": "dict", "options": _FAR_END},
            "progress_path": {"type": "path"},
        },
        supports_check_mode=True,
    )
    os.umask(0o077)
    run(module, lambda: _offer(module) if module.params["far_ends"] is None else _send(module))


def _request(module: AnsibleModule) -> send_run.SendRequest:
    given = module.params
    return send_run.SendRequest(
        guest=given["guest"],
        number=given["number"],
        rate=given["rate"],
        trust_domain=given["trust_domain"],
        retry_s=given["retry_s"],
        ticket=given["ticket"],
        host=host_name(module),
        capsule_dir=given["capsule_dir"],
        first=((given["via"],) if given["via"] else tuple(given["to"])) if given["far_ends"] is None else (),
    )


def _offer(module: AnsibleModule) -> dict[str, t.Any]:
    """The capsule, and the key that is to be permitted."""
    request = _request(module)
    found = send_run.offered(CapsuleStore(request.capsule_dir), request)
    key = None
    if module.params["ticket"] and not module.check_mode:
        key = SendKey(module.params["ticket"]).make()
    offer = {
        "document": base64.b64encode(found.capsule.data).decode("ascii"),
        "signature": base64.b64encode(found.capsule.signature or b"").decode("ascii"),
        "sender_id": found.sender_id,
        "image_bytes": found.image_bytes,
        "cpu": found.cpu,
        "public_key": key,
    }
    return {"changed": False, **found.named(), "hosts": [], "offer": offer}


def _send(module: AnsibleModule) -> dict[str, t.Any]:
    request, ends = _request(module), module.params["far_ends"]
    store = CapsuleStore(request.capsule_dir)
    if module.check_mode:
        hosts = send_run.checked(store, request, ends)
    else:
        hosts = _with_progress(module, lambda progress, stop: send_run.sent(store, request, ends, progress, stop))
    result: dict[str, t.Any] = {
        "changed": any(one["outcome"] in ("sent", "would_send") for one in hosts),
        "hosts": hosts,
    }
    result.update(send_run.offered(store, request).named())
    failed = [one for one in hosts if one["refusal"]]
    if failed:
        texts = [f"{one['host']}: {sentence(one['refusal'])}" for one in failed]
        module.fail_json(msg=visible("; ".join(texts)), refusal=failed[0]["refusal"], **result)
    return result


def _with_progress(
    module: AnsibleModule, body: t.Callable[[Progress, Stop], list[dict[str, t.Any]]]
) -> list[dict[str, t.Any]]:
    path, stop = module.params["progress_path"], Stop()
    if path:
        # Where that cannot be, nobody sees the lines, and the send goes on all the same.
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    progress = Progress(path)
    progress.begin(os.getpid())
    # A lost session says nothing about what its operator wants; an interrupt and a termination do.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.on_signal)
    try:
        return body(progress, stop)
    finally:
        progress.end()


if __name__ == "__main__":
    main()

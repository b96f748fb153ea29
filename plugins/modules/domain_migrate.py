#!/usr/bin/python

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: domain_migrate
short_description: Move one running guest to another host
version_added: 0.1.0
description:
  - Makes sure that a guest runs on another host, and moves it there live, from libvirtd to libvirtd, if it runs here.
  - You say what the move may cost the guest (its intent). The method follows from that.
  - Refuses what cannot work, with the reason and a remedy, before it changes anything.
  - Moves the definition too. Afterwards it asks both libvirtds; only their answers count.
  - Shows a line every few seconds while the guest moves. Ctrl-C aborts the move, and the guest stays where it is.
  - Is a run of its own on the host, with a journal and the host's run lock, like M(kvmops.cluster.plan_apply). While
    another run moves guests away from this host, it is refused (C(busy)), and says who is at work. If that run is the
    same move, it is joined.
extends_documentation_fragment:
  - kvmops.cluster.capsule_dir
  - kvmops.cluster.connection
  - kvmops.cluster.state_dir
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.action_group
  - kvmops.cluster.attributes.live
  - kvmops.cluster.move
  - kvmops.cluster.shared_devices
  - kvmops.cluster.intent
attributes:
  check_mode:
    support: full
    details:
      - Opens read-only connections only.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  guest:
    description:
      - Name or UUID of the guest.
    type: str
    required: true
  destination:
    description:
      - Name of the host that the guest moves to, for messages.
      - By default the host in O(destination_uri).
    type: str
  destination_uri:
    description:
      - How this host's libvirtd reaches the destination's.
    type: str
    required: true
  migration_address:
    description:
      - Where the guest's memory is sent. By default libvirt asks the destination.
    type: str
  migration_ports:
    description:
      - The ports on which the destination takes in guests, first and last, as in its C(qemu.conf)
        (C(migration_port_min) and C(migration_port_max)).
      - Before disks are copied, the last one is tried. Where a firewall drops what is sent there, QEMU would wait for
        more than two minutes, and the guest would stand still.
    type: str
    default: 49152-49215
  owner:
    description:
      - Who runs it; shown to others who find the host busy.
    type: str
    default: ansible
  fence:
    description:
      - The fencing number of this host's lease, as M(kvmops.cluster.host_lease) returned it to this run. The guest is
        moved only while nobody else has taken the host. This is checked again right before the guest is sent.
      - The lease is renewed while the guest moves, so it can be short.
      - By default leases are not checked.
    type: int
author:
  - kvmops.cluster contributors (@kvmops)
seealso:
  - module: kvmops.cluster.plan_apply
  - module: kvmops.cluster.host_lease
"""

EXAMPLES = r"""
- name: Move a guest, standing still for 200 ms at most
  kvmops.cluster.domain_migrate:
    guest: web1
    destination: h2
    destination_uri: qemu+ssh://root@h2/system
    max_downtime_ms: 200

- name: Move a busy guest that pre-copy does not finish
  kvmops.cluster.domain_migrate:
    guest: db1
    destination_uri: qemu+ssh://root@h2.example.org/system
    migration_address: 10.1.0.12
    allow_postcopy: true
    deadline_s: 600

- name: Move a guest only while this run has the host
  kvmops.cluster.domain_migrate:
    guest: web1
    destination: h2
    destination_uri: qemu+ssh://root@h2/system
    fence: "{{ lease.fence }}"
"""

RETURN = r"""
migration:
  description: What became of the guest (a step result of the collection's contracts).
  returned: both on success and on failure, once the guest was looked at
  type: dict
  contains:
    guest:
      description: Name and UUID.
      type: dict
      returned: always
    source:
      description: The host it was to leave.
      type: str
      returned: always
    destination:
      description: The host it was to go to.
      type: str
      returned: always
    outcome:
      description:
        - V(moved), V(already_there), V(would_move), V(refused), V(failed), V(off) when it is shut off where it was
          and runs nowhere, V(lost) when a part of its memory is gone, V(unclear), or V(not_started) if the run was
          stopped before it looked at the guest.
      type: str
      returned: always
    left_copies:
      description: The images that stay on the source. M(kvmops.cluster.disk_copies) lists and removes them.
      type: list
      elements: dict
      returned: after a move that copied disks
    refusals:
      description: Why nothing was tried.
      type: list
      elements: dict
      returned: always
    error:
      description: What went wrong and what to do.
      type: str
      returned: always
    strategy:
      description: How it was moved.
      type: str
      returned: always
    reason:
      description: Why so.
      type: str
      returned: always
    total_s:
      description: Seconds from the start of the move until both sides agreed.
      type: float
      returned: always
    bytes:
      description: Bytes on the wire.
      type: int
      returned: always
    downtime_ms:
      description: How long the guest stood still.
      type: int
      returned: always
    iterations:
      description: Rounds of pre-copy.
      type: int
      returned: always
    corrected:
      description: What was put right after the move, such as the mark that the guest starts with its host.
      type: list
      elements: str
      returned: always
    notes:
      description: What is worth knowing about the move, and needs nothing to be done.
      type: list
      elements: str
      returned: always
    faults:
      description:
        - What is still wrong although the guest is where it should be. Each has C(code), C(reason) and C(remedy), which
          is the command that puts it right.
      type: list
      elements: dict
      returned: always
run:
  description: The run itself.
  returned: both on success and on failure, once the guest was looked at
  type: dict
  contains:
    plan:
      description: Its id, which names the directory of its records on this host. It is null in check mode.
      type: str
      returned: always
      sample: migrate-web1-20261124T020000Z-3f9a
    attached:
      description: Whether a run of the same move that was at work already was joined.
      type: bool
      returned: always
    journal:
      description: The journal on this host.
      type: str
      returned: not in check mode
"""

import contextlib
import datetime
import os
import secrets
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import single_move
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result import step_result
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.host_files import FIRST_PORT, LAST_PORT
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import host_of
from ansible_collections.kvmops.cluster.plugins.module_utils.run import leases, runner
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import Journal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.progress import Progress
from ansible_collections.kvmops.cluster.plugins.module_utils.run.retention import Retention
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection import VirtError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection_pool import Connections
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import (
    CONNECTION_ARGUMENTS,
    host_name,
    run,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move import module_common
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.mover import GuestMover
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.settings import (
    INTENT_ARGUMENTS,
    MOVE_ARGUMENTS,
    Settings,
    settings_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.preparation import PreparationOptions


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            **INTENT_ARGUMENTS,
            **MOVE_ARGUMENTS,
            "guest": {"type": "str", "required": True},
            "destination": {"type": "str"},
            "destination_uri": {"type": "str", "required": True},
            "migration_address": {"type": "str"},
            "migration_ports": {"type": "str", "default": f"{FIRST_PORT}-{LAST_PORT}"},
            "owner": {"type": "str", "default": "ansible"},
            "fence": {"type": "int"},
        },
        supports_check_mode=True,
    )
    run(module, lambda: finish(module, migrate(module)))


def migrate(module: AnsibleModule) -> dict[str, t.Any]:
    """Move the guest, or say what that would do; returns C(results) (one) and C(run)."""
    parameters = module.params
    source = host_name(module)
    target = parameters["destination"] or host_of(parameters["destination_uri"]) or parameters["destination_uri"]
    host = {"connect_uri": parameters["destination_uri"], "migration_address": parameters["migration_address"]}
    settings = settings_of(parameters, source, {target: {**host, "ports": _ports(parameters["migration_ports"])}})
    intent = intents.normalise({word: parameters[word] for word in INTENT_ARGUMENTS})
    start_refusal = leases.start_check(parameters["state_dir"], parameters["fence"], source)
    with Connections(read_only=True) as connections:
        guest, memory_bytes = module_common.find_guest(connections, settings, parameters["guest"], target)
        step = single_move.step_of(guest, source, target, memory_bytes, intent)
        if module.check_mode:
            mover = module_common.checking_mover(connections, settings)
            return {"results": [mover.check(step)], "run": {"plan": None, "attached": False}}
        hosts = {
            source: {
                "host_uuid": module_common.host_uuid(connections, settings.source.uri) or "",
                "connect_uri": None,
                "migration_address": None,
            },
            target: {"host_uuid": module_common.host_uuid(connections, host["connect_uri"]) or "", **host},
        }
    now = f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    plan = single_move.plan_of(step, hosts, now, secrets.token_hex(2))
    return _carry_out(parameters, settings, plan, start_refusal)


def _carry_out(
    parameters: dict[str, t.Any],
    settings: Settings,
    plan: dict[str, t.Any],
    start_refusal: t.Callable[[], Refusal | None],
) -> dict[str, t.Any]:
    """Move the guest under the host's run lock, or join the run that does so already."""
    state_dir, steps = parameters["state_dir"], plan["steps"]
    running = runner.running_plan(state_dir)
    if running and single_move.is_same_move(running, steps[0]):
        plan = {**plan, "id": running["id"]}
    if parameters["progress_path"]:
        # Where that cannot be, nobody sees the lines, and the move goes on all the same.
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(parameters["progress_path"]), mode=0o700, exist_ok=True)
    request = runner.Request(
        plan=plan,
        steps=steps,
        owner=parameters["owner"],
        state_dir=state_dir,
        progress_path=parameters["progress_path"],
        window=1,
        start_refusal=start_refusal,
        keep=Retention(parameters["keep_runs"], parameters["keep_days"]),
    )

    preparation = PreparationOptions(guest_hooks=parameters["guest_hooks"])

    @contextlib.contextmanager
    def make_mover(journal: Journal, progress: Progress, stop: runner.Stop) -> t.Iterator[GuestMover]:
        with Connections(read_only=False) as writable:
            module_common.give_back_memory(writable, settings, journal, progress)
            module_common.hand_over_left_settings(writable, settings, steps, journal, progress)
            # The operator asked for this one move only, so the first signal aborts it.
            yield module_common.mover(writable, settings, journal, progress, stop.stopping, stop.stopping, preparation)

    with leases.keep_renewed(state_dir, parameters["fence"], settings.source.host):
        document = runner.run(request, make_mover, runner.Stop())
    module_common.digest_left(document["results"], state_dir)
    return document


def _ports(stated: str) -> tuple[int, int]:
    """First and last port; VirtError for what is no range of ports."""
    first, _dash, last = stated.partition("-")
    if all(port.isdecimal() and 0 < int(port) < 65536 for port in (first, last)) and int(first) <= int(last):
        return int(first), int(last)
    raise VirtError(
        refusal(
            "bad_option",
            f"migration_ports is {stated[:50]!r}, which is no range of ports",
            f"set migration_ports to the first and the last port, such as {FIRST_PORT}-{LAST_PORT}",
        )
    )


def finish(module: AnsibleModule, moved: dict[str, t.Any]) -> dict[str, t.Any]:
    """End the module with what became of the guest."""
    result = moved["results"][0]
    document: dict[str, t.Any] = {
        "changed": result["outcome"] in ("moved", "would_move"),
        "migration": result,
        "run": moved["run"],
    }
    if module._diff:
        document["diff"] = module_common.diff([result])
    if not step_result.leaves_nothing_to_do(result):
        module.fail_json(msg=module_common.summary([result], 1), **document)
    return document


if __name__ == "__main__":
    main()

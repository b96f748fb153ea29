#!/usr/bin/python

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: plan_apply
short_description: Carry out one host's steps of a migration plan
version_added: 0.1.0
description:
  - Moves the guests that a plan takes away from this host, one in transfer at a time by default, the end of one move
    overlapping the start of the next.
  - The first guest to each destination goes alone. The next one is sent there when both hosts agree that the first has
    moved, and when its hooks have run.
  - Before each move it asks the destination itself whether it is open, has room and a free slot.
  - Runs on the host as a job of its own. A lost connection or a killed controller does not end it. If it is run again
    with the same plan, it joins the job that is at work, or continues where that job was interrupted. It asks both
    libvirtds what happened, and trusts no record.
  - Shows a line for each guest every few seconds while it works, and every round of every move with C(-v). In a
    terminal that can, it rewrites one line for each guest, unless the inventory has C(kvmops_cluster_live=false).
  - Press Ctrl-C once, and no further move starts. The move in flight completes.
extends_documentation_fragment:
  - kvmops.cluster.capsule_dir
  - kvmops.cluster.connection
  - kvmops.cluster.state_dir
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.action_group
  - kvmops.cluster.attributes.live
  - kvmops.cluster.move
  - kvmops.cluster.shared_devices
attributes:
  check_mode:
    support: full
    details:
      - Opens read-only connections only, and says for each step what would happen.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  plan:
    description:
      - The plan document (schema V(kvmops.plan/1)), as M(kvmops.cluster.migration_plan) returns it.
      - Required unless O(attach_only=true) or O(plan_path) is given.
    type: dict
  plan_path:
    description:
      - A file on the controller that holds the plan document.
    type: path
  snapshots:
    description:
      - Snapshots of all hosts of the plan as they are now, as RV(kvmops.cluster.host_info#module:snapshot) returns
        them. A list, or a dictionary of hosts to snapshots.
      - The plan is compared with them before anything starts. It is refused if the cluster has changed in a way that
        matters for its steps. Such changes are a guest that has gone or grown, was shut off or cannot leave any more; a
        destination that was closed, does not answer or is another machine; a new guest on a host that is to be empty.
        The result's C(changes) list them.
      - A guest that is already where it should be is no such change. Free memory is not compared, because each move
        asks its destination when its turn comes.
      - By default only this host's own UUID is checked.
    type: raw
  connect:
    description:
      - How all hosts are reached by the inventory, as RV(kvmops.cluster.cluster_view#module:addresses) has it.
      - By default these are the hosts of the play and of the plan. A plan with other addresses is refused, and the
        differences are told. No host is asked that is not among these.
      - A guest that a dead run left paused goes on only if all of these hosts have been asked, and none has it.
    type: raw
  intent:
    description:
      - What the operator of this run permits. A plan of which a step permits more is refused.
      - By default the plan says what is permitted. State it for a plan that others have written.
    type: raw
  sha256:
    description:
      - The SHA-256 of the file that was reviewed, as C(sha256sum) prints it. With O(plan_path), any other file is
        refused.
    type: str
  owner:
    description:
      - Who runs it; shown to others who find the host busy.
    type: str
    default: ansible
  window:
    description:
      - Guests in transfer at once. Use more than one only if a single guest cannot fill the link; otherwise they slow
        each other down. Each is forecast with its share of the link. No bandwidth is learned from such moves.
    type: int
    default: 1
  attach_only:
    description:
      - Join the run that is at work on this host, whatever its plan, wait for its end and return its results.
      - If no run is at work, returns at once.
      - Fails if that run ends without a result, for example because it was killed. Then a guest may still be moving.
    type: bool
    default: false
  free_memory:
    description:
      - With V(auto), the guest's balloon takes memory that the guest does not use, and gives it back before the move.
        So that memory need not be sent. This is done only if the forecast says that it pays. The guest always keeps the
        memory that it needs.
      - V(never) leaves every guest's memory alone.
    type: str
    choices: [auto, never]
    default: never
  hooks:
    description:
      - Commands to run, and checks to make, before or after each move. O(guest_hooks) permits those that a guest
        has in its metadata.
      - What fails after a move is in the result of the step and in the report's list of what to do.
    type: list
    elements: dict
    default: []
    suboptions:
      command:
        description:
          - Program and arguments. No shell reads them.
          - Either this or O(hooks[].check) is required.
        type: list
        elements: str
      check:
        description:
          - Check whether the guest can be reached, instead of running a command. The check is made again and again
            until it succeeds or O(hooks[].timeout_s) is over.
          - With V(agent), the guest's agent must answer.
          - With V(port), it must be possible to connect to O(hooks[].port) of the guest by TCP, from the host that the
            guest leaves.
          - A check after the move is also made before it, once. If it fails before the move already, it is not made
            after it, and the result says so.
        type: str
        choices: [agent, port]
      port:
        description:
          - The TCP port for O(hooks[].check=port).
        type: int
      address:
        description:
          - Address or name of the guest for O(hooks[].check=port).
          - By default the addresses that the guest's agent, libvirt's DHCP server or the host's neighbour table know.
            One of them must answer.
        type: str
      when:
        description:
          - Whether it runs before or after the move.
          - By default V(before) for a command, and V(after) for a check.
        type: str
        choices: [before, after]
      seconds:
        description:
          - How many seconds before or after the move.
        type: float
        default: 0
      where:
        description:
          - On the host that the guest leaves, or in the guest through its agent.
          - By default V(host). It follows from a check, so it need not be stated there.
        type: str
        choices: [host, guest]
      timeout_s:
        description:
          - How long it may take.
        type: float
        default: 30
      on_failure:
        description:
          - What is done if it fails.
          - With V(refuse), the guest is not moved. This is possible before the move only, and the default there.
          - With V(stop), this host sends no further guest to that destination in this run. This is possible after the
            move only, and the default there. The guest that has moved stays where it is.
          - With V(go_on), nothing else. This is the default for a command after the move in a guest's metadata.
        type: str
        choices: [refuse, stop, go_on]
  fence:
    description:
      - The fencing number of this host's lease, as M(kvmops.cluster.host_lease) returned it to this run. The plan is
        carried out only while nobody else has taken the host. This is checked again before each move.
      - The lease is renewed while guests are moved away from here, so it can be short.
      - By default leases are not checked.
    type: int
author:
  - kvmops.cluster contributors (@kvmops)
seealso:
  - module: kvmops.cluster.migration_plan
  - module: kvmops.cluster.domain_migrate
  - module: kvmops.cluster.host_lease
"""

EXAMPLES = r"""
- name: Move the guests away from this host as planned
  kvmops.cluster.plan_apply:
    name: "{{ inventory_hostname }}"
    plan: "{{ drain.plan }}"

- name: Do the same with less downtime, which the operator has to permit
  kvmops.cluster.plan_apply:
    name: "{{ inventory_hostname }}"
    plan: "{{ drain.plan }}"
    tune_network: true

- name: Send no further guest to a host where the first one cannot be reached
  kvmops.cluster.plan_apply:
    name: "{{ inventory_hostname }}"
    plan: "{{ drain.plan }}"
    hooks:
      - check: port
        port: 22
        on_failure: stop

- name: Carry out a plan that was saved and reviewed
  kvmops.cluster.plan_apply:
    name: "{{ inventory_hostname }}"
    plan_path: plans/drain-h1.json
    sha256: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
    intent: {max_downtime_ms: 200}
    snapshots: "{{ ansible_play_hosts | map('extract', hostvars, ['seen', 'snapshot']) }}"

- name: Do it only while this run has the host
  kvmops.cluster.plan_apply:
    name: "{{ inventory_hostname }}"
    plan: "{{ drain.plan }}"
    fence: "{{ lease.fence }}"

- name: Wait for whatever run is at work on this host
  kvmops.cluster.plan_apply:
    attach_only: true
"""

RETURN = r"""
results:
  description: What became of each step of this host, in the plan's order.
  returned: both on success and on failure, once the plan was accepted
  type: list
  elements: dict
  contains:
    step:
      description: The step's id in the plan.
      type: str
      returned: always
      sample: s001
    guest:
      description: Name and UUID of the guest.
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
        - V(moved), V(already_there), V(would_move) in check mode, V(refused) when nothing was tried, V(failed) when it
          was tried and the guest still runs where it was, V(off) when it is shut off there and runs nowhere, V(lost)
          when a part of its memory is gone, V(unclear) when a person must look at both sides, V(not_started) when the
          run was stopped before its turn.
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
    strategy:
      description: How it was moved.
      type: str
      returned: always
    reason:
      description: Why so.
      type: str
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
changes:
  description: What has changed since the plan was made, each with C(code), C(reason) and C(remedy).
  returned: when O(snapshots) shows that the plan no longer fits the cluster
  type: list
  elements: dict
  sample: [{code: guest_gone, reason: 'web1 is no longer on h1: it runs on h3 now', remedy: make a new plan}]
unfinished:
  description:
    - UUIDs of guests that a run has sent from here, and that may lack at their destination what libvirt does not take
      along (autostart, checkpoints), as that run died or the destination did not answer. The next plan that is carried
      out here puts that right, also one without steps for this host.
  returned: with O(attach_only), when no run is at work any more
  type: list
  elements: str
  sample: []
run:
  description: The run itself.
  returned: both on success and on failure, once the plan was accepted
  type: dict
  contains:
    plan:
      description: The plan's id.
      type: str
      returned: always
    attached:
      description: Whether a run that was at work already was joined.
      type: bool
      returned: always
    journal:
      description: The journal on this host.
      type: str
      returned: when a plan was carried out
"""

import contextlib
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.core import hooks
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import plan as plans
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import source_order
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.reader import read_plan
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result import step_result
from ansible_collections.kvmops.cluster.plugins.module_utils.run import leases, runner
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import kept_settings
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import Journal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.progress import Progress
from ansible_collections.kvmops.cluster.plugins.module_utils.run.retention import Retention
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_lock import is_run_locked, run_lock_holder
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection_pool import Connections
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import (
    CONNECTION_ARGUMENTS,
    host_name,
    run,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move import module_common
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.mover import GuestMover
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.settings import MOVE_ARGUMENTS, settings_of
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.preparation import PreparationOptions

HOOK_ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "command": {"type": "list", "elements": "str"},
    "check": {"type": "str", "choices": ["agent", "port"]},
    "port": {"type": "int"},
    "address": {"type": "str"},
    "when": {"type": "str", "choices": ["before", "after"]},
    "seconds": {"type": "float", "default": 0},
    "where": {"type": "str", "choices": ["host", "guest"]},
    "timeout_s": {"type": "float", "default": 30},
    "on_failure": {"type": "str", "choices": ["refuse", "stop", "go_on"]},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            **MOVE_ARGUMENTS,
            "plan": {"type": "dict"},
            "plan_path": {"type": "path"},
            "snapshots": {"type": "raw"},
            "connect": {"type": "raw"},
            "intent": {"type": "raw"},
            "sha256": {"type": "str"},
            "owner": {"type": "str", "default": "ansible"},
            "window": {"type": "int", "default": 1},
            "attach_only": {"type": "bool", "default": False},
            "free_memory": {"type": "str", "choices": ["auto", "never"], "default": "never"},
            "hooks": {"type": "list", "elements": "dict", "default": [], "options": HOOK_ARGUMENTS},
            "fence": {"type": "int"},
        },
        mutually_exclusive=[("plan", "plan_path"), ("plan", "attach_only")],
        required_one_of=[("plan", "plan_path", "attach_only")],
        supports_check_mode=True,
    )
    run(module, lambda: finish(module, attach(module) if module.params["attach_only"] else apply(module)))


def attach(module: AnsibleModule) -> dict[str, t.Any]:
    """Join the run that is at work here, if there is one."""
    state_dir = module.params["state_dir"]
    if not is_run_locked(state_dir):
        unfinished = kept_settings.guests(state_dir)
        return {"results": [], "run": {"plan": None, "attached": False}, "unfinished": unfinished}
    # Without anybody who follows its lines, there is nothing to wait for either.
    if module.check_mode or not module.params["progress_path"]:
        return {"results": [], "run": {"plan": run_lock_holder(state_dir).get("plan"), "attached": True}}
    followed = runner.join_run(state_dir, module.params["progress_path"])
    if followed is None:
        raise runner.run_died(state_dir)
    return {**followed, "unfinished": kept_settings.guests(state_dir)}


def apply(module: AnsibleModule) -> dict[str, t.Any]:
    """Carry out the plan's steps of this host, or say what that would do."""
    if module.params["plan"] is None:
        asked = module.params["plan_path"]
        why = "plan_path is a file on the controller, which reads it: call plan_apply as a task"
        module.fail_json(msg=why if asked else "there is nothing to carry out: give plan or plan_path")
    plan = read_plan(module.params["plan"])
    name = host_name(module)
    start_refusal = leases.start_check(module.params["state_dir"], module.params["fence"], name)
    preparation = PreparationOptions(
        module.params["free_memory"], hooks.normalise(module.params["hooks"]), module.params["guest_hooks"]
    )
    steps: list[dict[str, t.Any]] = [
        {**step, "awaits": source_order.awaited(plan, step)} for step in plans.steps_of(plan, name)
    ]
    ranks = source_order.ranks(plan, name)
    settings = settings_of(module.params, name, plan["hosts"], ranks, steps=steps)
    with Connections(read_only=True) as connections:
        plans.check_cluster(plan, {name: module_common.host_uuid(connections, settings.source.uri)})
        if module.check_mode:
            mover = module_common.checking_mover(connections, settings)
            return {"results": [mover.check(step) for step in steps], "run": {"plan": plan["id"], "attached": False}}
    request = runner.Request(
        plan=dict(plan),
        steps=steps,
        owner=module.params["owner"],
        state_dir=module.params["state_dir"],
        progress_path=module.params["progress_path"],
        window=max(1, module.params["window"]),
        start_refusal=start_refusal,
        keep=Retention(module.params["keep_runs"], module.params["keep_days"]),
    )

    @contextlib.contextmanager
    def make_mover(journal: Journal, progress: Progress, stop: runner.Stop) -> t.Iterator[GuestMover]:
        with Connections(read_only=False) as writable:
            module_common.give_back_memory(writable, settings, journal, progress)
            module_common.hand_over_left_settings(writable, settings, steps, journal, progress)
            yield module_common.mover(writable, settings, journal, progress, stop.aborting, stop.stopping, preparation)

    with leases.keep_renewed(module.params["state_dir"], module.params["fence"], name):
        document = runner.run(request, make_mover, runner.Stop())
    module_common.digest_left(document["results"], module.params["state_dir"])
    return document


def finish(module: AnsibleModule, document: dict[str, t.Any]) -> dict[str, t.Any]:
    """Sum up: what changed, and whether something needs the operator."""
    results = document["results"]
    changed = any(one["outcome"] in ("moved", "would_move") for one in results)
    document["changed"] = changed
    if module._diff:
        document["diff"] = module_common.diff(results)
    undone = [one for one in results if not step_result.leaves_nothing_to_do(one)]
    if undone:
        module.fail_json(msg=module_common.summary(undone, len(results)), **document)
    return document


if __name__ == "__main__":
    main()

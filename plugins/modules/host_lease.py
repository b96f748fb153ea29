#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_lease
short_description: Take a host for one run of a playbook, and give it back
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - Keeps two playbooks from changing the same host at once. The second one waits, or is told who has the host, what
    for, since when and until when.
  - A lease ends at its time, so a run that died does not block others. A run that is at work renews its lease before
    that. M(kvmops.cluster.plan_apply) does so by itself for the host that it works on.
  - Each new holder gets a higher fencing number, C(fence). Give it to M(kvmops.cluster.plan_apply). Then a run that has
    lost its lease to somebody else begins nothing more.
  - Take the leases of several hosts in the order of their names, so that two runs never wait for each other.
  - Needs no libvirt on the host.
options:
  state:
    description:
      - With V(held), takes the lease. If the same O(owner) and O(run) take it again, it lasts for O(ttl_s) from now.
      - With V(absent), gives it back. A lease that somebody else has meanwhile is left alone.
    type: str
    choices:
      - held
      - absent
    default: held
  owner:
    description:
      - Who takes it, for example C(alice@admin1).
    type: str
    required: true
  run:
    description:
      - The run that takes it. Runs of one owner that must not meet need different ones.
      - A run that was interrupted takes its own lease over at once if it uses the same name.
    type: str
    required: true
  purpose:
    description:
      - What for; shown to others who find the host taken. By default what the same run said before.
    type: str
  hosts:
    description:
      - All hosts that the run takes; shown to others. By default only this host.
    type: list
    elements: str
    default: []
  ttl_s:
    description:
      - Seconds until the lease ends by itself.
    type: int
    default: 900
  wait_s:
    description:
      - Seconds to wait for another run that has the host. Check mode does not wait.
    type: int
    default: 0
  fence:
    description:
      - Renew or give back only the lease with this fencing number, which an earlier task took. Take no new one.
    type: int
  force:
    description:
      - Take the lease from whoever has it, or give it back for them, and break one that cannot be read, whatever is in
        its place. A folder there is not removed but gets another name (C(lease.json.aside-1)).
      - A run that is still at work begins no further move then, if it was given its fence.
    type: bool
    default: false
  takes_over:
    description:
      - Names of runs that are certainly dead; the refusal gives the names. The lease is taken over from them at once,
        and from no other run.
      - If such a run is not dead, it begins no further move, as with O(force).
    type: list
    elements: str
    default: []
  name:
    description:
      - The name of this host in all messages. By default what the host calls itself.
    type: str
extends_documentation_fragment:
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.action_group
  - kvmops.cluster.state_dir
attributes:
  check_mode:
    support: full
    details:
      - Writes nothing, and fails if the lease could not be had now.
  diff_mode:
    support: full
  idempotent:
    support: full
    details:
      - That a lease lasts longer than before is no change.
seealso:
  - module: kvmops.cluster.plan_apply
  - module: kvmops.cluster.host_maintenance
"""

EXAMPLES = r"""
- name: Take this host for a drain, and wait up to ten minutes for whoever has it
  kvmops.cluster.host_lease:
    owner: alice@admin1
    run: drain-h1
    purpose: drain h1, ticket 4711
    wait_s: 600
  register: lease

- name: Move the guests away, as long as nobody else takes the host
  kvmops.cluster.plan_apply:
    plan: "{{ drain.plan }}"
    fence: "{{ lease.fence }}"

- name: Give it back
  kvmops.cluster.host_lease:
    state: absent
    owner: alice@admin1
    run: drain-h1

- name: Go on in the place of a run that is known to be dead, but of no other
  kvmops.cluster.host_lease:
    owner: alice@admin1
    run: drain-h1-again
    takes_over: [drain-h1]

- name: Break the lease of a run that is known to be dead
  kvmops.cluster.host_lease:
    state: absent
    owner: bob@admin2
    run: cleanup
    force: true
"""

RETURN = r"""
lease:
  description:
    - The host's lease, as the document C(kvmops.lease/1). When the lease could not be had, that of its holder.
  returned: success, and on failure when it could be read
  type: dict
  contains:
    schema:
      description: Name and version of this document.
      type: str
      returned: always
      sample: kvmops.lease/1
    owner:
      description: Who has it; V(null) while the host is free.
      type: str
      returned: always
      sample: alice@admin1
    run:
      description: The run that has it.
      type: str
      returned: always
      sample: drain-h1
    purpose:
      description: What for.
      type: str
      returned: always
      sample: drain h1, ticket 4711
    since:
      description: Since when, by the host's clock, in UTC.
      type: str
      returned: always
      sample: '2026-11-24T02:00:00.120Z'
    expires_at:
      description:
        - When it ends if it is not renewed, by the host's clock.
        - After a reboot this counts, for RV(lease.ttl_s) at most.
      type: str
      returned: always
      sample: '2026-11-24T02:15:00.120Z'
    boot_id:
      description: The boot of the host in which it was taken or renewed last. V(null) in leases of older versions.
      type: str
      returned: always
      sample: 3e7b4f0a-5b1c-4f0e-9c55-0a4c9a2b7d11
    expires_uptime_s:
      description:
        - When it ends in that boot, in seconds since the boot. In this boot only this counts, whatever the clock says.
      type: float
      returned: always
      sample: 86423.118
    ttl_s:
      description: How long it is renewed for.
      type: int
      returned: always
      sample: 900
    fence:
      description:
        - Its number. It stays when the lease is given back, and the next one is higher. That of a lease that is broken
          with O(force) grows at once.
      type: int
      returned: always
      sample: 1795485600
    hosts:
      description: All hosts that the run took.
      type: list
      elements: str
      returned: always
      sample: [h1, h2]
fence:
  description: The number of the lease that is held. V(null) when none is, and in check mode when it would be a new one.
  returned: success
  type: int
  sample: 1795485600
inherited:
  description:
    - All hosts that the same run of the same owner had taken before, with this one. A run that takes the place of one
      that was killed gives these back in the end, also those that it does not need itself.
  returned: success
  type: list
  elements: str
  sample: [h1, h2, h3]
waited:
  description: Whether another run had the host first, so that what is there may have changed meanwhile.
  returned: success
  type: bool
refusal:
  description: Why it was refused, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
  sample:
    code: lease_held
    reason: >-
      h1 is taken by bob@admin2 for run rebalance-7 (nightly rebalance) since 2026-11-24T02:00:00.120Z, until
      2026-11-24T02:15:00.120Z unless it is renewed
    remedy: wait for the end of that run (wait_s waits), or ask bob@admin2; if the run is dead, its lease ends by itself
"""

import socket
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.core.lease import Claim, LeaseError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.run import leases
from ansible_collections.kvmops.cluster.plugins.module_utils.run.state_dir import STATE_DIR_ARGUMENT
from ansible_collections.kvmops.cluster.plugins.module_utils.run.state_owner import give_to_owner

NO_END = dict.fromkeys(("expires_at", "boot_id", "expires_uptime_s"))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["held", "absent"], "default": "held"},
            "owner": {"type": "str", "required": True},
            "run": {"type": "str", "required": True},
            "purpose": {"type": "str"},
            "hosts": {"type": "list", "elements": "str", "default": []},
            "ttl_s": {"type": "int", "default": 900},
            "wait_s": {"type": "int", "default": 0},
            "fence": {"type": "int"},
            "force": {"type": "bool", "default": False},
            "takes_over": {"type": "list", "elements": "str", "default": []},
            "name": {"type": "str"},
            **STATE_DIR_ARGUMENT,
        },
        supports_check_mode=True,
    )
    try:
        outcome = change(module.params, write=not module.check_mode)
    except LeaseError as error:
        held: dict[str, t.Any] = {} if error.lease is None else {"lease": error.lease}
        module.fail_json(msg=sentence(error.refusal), refusal=dict(error.refusal), **held)
    finally:
        if not module.check_mode:
            give_to_owner(module.params["state_dir"])
    module.exit_json(**result(outcome, module.params["state"], check_mode=module.check_mode, diff=module._diff))


def change(parameters: dict[str, t.Any], *, write: bool) -> leases.Outcome:
    """Take the lease, or give it back."""
    claim = Claim(
        host=parameters["name"] or socket.gethostname(),
        hosts=tuple(parameters["hosts"]),
        takes_over=tuple(parameters["takes_over"]),
        **{key: parameters[key] for key in ("owner", "run", "purpose", "ttl_s", "fence", "force")},
    )
    if parameters["state"] == "held":
        return leases.take(parameters["state_dir"], claim, wait_s=parameters["wait_s"], write=write)
    return leases.release(parameters["state_dir"], claim, write=write)


def result(outcome: leases.Outcome, state: str, *, check_mode: bool, diff: bool) -> dict[str, t.Any]:
    """What the module returns."""
    before, after = outcome.before, outcome.after
    # A renewal only moves the end.
    changed = outcome.broken or {**before, **NO_END} != {**after, **NO_END}
    foretold = check_mode and after["fence"] != before["fence"]
    same = state == "held" and (before["owner"], before["run"]) == (after["owner"], after["run"])
    document = {
        "changed": changed,
        "lease": after,
        "inherited": before["hosts"] if same else [],
        "fence": None if state == "absent" or foretold else after["fence"],
        "waited": outcome.waited,
    }
    if diff:
        document["diff"] = {"before": before, "after": after}
    return document


if __name__ == "__main__":
    main()

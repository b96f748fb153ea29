#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_metrics
short_description: Write what is known of a host and its guests for Prometheus
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - Writes a file that the textfile collector of Prometheus' exporter for hosts reads. It has the working set of each
    guest, what moving it would cost, whether anything keeps it, its last move, and the state of the host. The guide
    C(docs/guides/metrics.md) lists all metrics.
  - Takes the last measurements that this host keeps. With O(measure_s) it measures first. It never moves or changes a
    guest.
  - The role P(kvmops.cluster.observe#role) does the same by a timer, without Ansible.
extends_documentation_fragment:
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.action_group
  - kvmops.cluster.connection
  - kvmops.cluster.shared_devices
  - kvmops.cluster.state_dir
attributes:
  check_mode:
    support: full
    details:
      - Nothing is measured or written.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - The file is written each time, as its time says how fresh it is. A change is told if more than that and the free
        memory of the host has changed.
options:
  path:
    description:
      - The file. Its name must end in C(.prom), and its folder must exist and be no link.
      - A link of that name is replaced, and not followed.
    type: path
    default: /var/lib/prometheus/node-exporter/kvmops.prom
  measure_s:
    description:
      - Seconds for measuring all guests of the host. With V(0) nothing is measured.
      - Nothing is measured either while a run moves guests away from this host.
    type: float
    default: 0
  allow_monitor:
    description:
      - Whether QEMU may be asked directly, as in M(kvmops.cluster.working_set_info).
    type: bool
    default: false
  look_at_memory:
    description:
      - Whether a sample of each guest's memory may be read, as in M(kvmops.cluster.working_set_info).
    type: bool
    default: true
  bandwidth_mib_s:
    description:
      - What the link of this host gives a move, in MiB/s. What moves have shown is believed up to that.
      - Without it, and before the first move, nothing can be forecast.
    type: float
  window_s:
    description:
      - How long a drain of this host may take. It becomes a metric, for alerts.
    type: float
  intent:
    description:
      - What a move may cost a guest, as C(docs/contracts.md) describes it. A guest's own intent can only be stricter.
    type: dict
    default: {}
  plan:
    description:
      - A plan, as M(kvmops.cluster.migration_plan) returns it. What it says of this host is kept, and is among the
        metrics until another plan is given.
      - Of a guest, the newer of the plan and the last measurement counts.
    type: dict
seealso:
  - module: kvmops.cluster.working_set_info
    description: Measures guests, and returns all that was found.
"""

EXAMPLES = r"""
- name: Write what is known of each host
  kvmops.cluster.host_metrics:
    name: "{{ inventory_hostname }}"
    window_s: 1800

- name: Let metrics tell what a plan says
  kvmops.cluster.host_metrics:
    name: "{{ inventory_hostname }}"
    plan: "{{ planned.plan }}"
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: /var/lib/prometheus/node-exporter/kvmops.prom
measured:
  description: Guests that were measured now.
  returned: success
  type: list
  elements: str
  sample: [db1, web1]
refusals:
  description: Guests that could not be measured, with the reason and a remedy.
  returned: success
  type: list
  elements: dict
refusal:
  description: Why nothing was written, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
  sample:
    code: no_textfile_folder
    reason: there is no folder /var/lib/prometheus/node-exporter
    remedy: make it, or name another path; the exporter reads that of --collector.textfile.directory
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection import VirtError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import (
    CONNECTION_ARGUMENTS,
    SHARED_DEVICES_ARGUMENT,
    host_name,
    local_uri,
    run,
    shared_devices,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.observe import textfile
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.observe.observing import (
    DEFAULT_PATH,
    Request,
    observe,
)

#: What is another value each time.
_PASSING = ("kvmops_written_timestamp_seconds ", "kvmops_host_memory_available_bytes ")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            **SHARED_DEVICES_ARGUMENT,
            "path": {"type": "path", "default": DEFAULT_PATH},
            "measure_s": {"type": "float", "default": 0},
            "allow_monitor": {"type": "bool", "default": False},
            "look_at_memory": {"type": "bool", "default": True},
            "bandwidth_mib_s": {"type": "float"},
            "window_s": {"type": "float"},
            "intent": {"type": "dict", "default": {}},
            "plan": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    run(module, lambda: _body(module))


def _body(module: AnsibleModule) -> dict[str, t.Any]:
    given = module.params
    path = str(given["path"])
    if not path.endswith(".prom"):
        raise VirtError(refusal("bad_option", f"path is {path}, and the exporter reads only *.prom", "name it so"))
    request = Request(
        uri=local_uri(module),
        name=host_name(module),
        path=path,
        shared_devices=shared_devices(given),
        **{
            key: given[key]
            for key in (
                "state_dir",
                "measure_s",
                "allow_monitor",
                "look_at_memory",
                "bandwidth_mib_s",
                "window_s",
                "intent",
            )
        },
    )
    before = textfile.content(path) or ""
    observed = observe(request, write=not module.check_mode, plan=given["plan"])
    return {
        "changed": _lasting(before) != _lasting(observed.text),
        "path": path,
        "measured": observed.measured,
        "refusals": observed.refusals,
        "diff": {"before_header": path, "after_header": path, "before": before, "after": observed.text},
    }


def _lasting(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(_PASSING)]


if __name__ == "__main__":
    main()

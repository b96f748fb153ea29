#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_view
short_description: Put the snapshots of all hosts of a play together
version_added: 0.1.0
description:
  - Collects what M(kvmops.cluster.host_info) returned on each host of a play, and says which hosts gave no answer
    and why.
  - Run it with C(run_once).
author:
  - kvmops.cluster contributors (@kvmops)
options:
  snapshots_from:
    description:
      - The name under which the task with M(kvmops.cluster.host_info) registered its result, or several such names.
      - Where a host of the play asked others, in a loop over their names with C(delegate_to), each answer is theirs.
    type: list
    elements: str
    required: true
  hosts:
    description: The hosts to look at; all hosts of the play by default.
    type: list
    elements: str
  required:
    description:
      - Hosts that must have answered; the task fails if one of them has not.
      - Any other host that has not answered is left out, with a warning.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - kvmops.cluster.attributes.controller
notes:
  - The inventory variables C(kvmops_cluster_connect_uri) and C(kvmops_cluster_migration_address) of a host say how the
    other hosts reach its libvirtd and where they send guests to. Without the first, it is C(qemu+ssh://root@HOST/system).
  - The inventory variable C(kvmops_cluster_bandwidth_mib_s) says what the migration network of a host carries, and
    C(kvmops_cluster_link) names a link that it shares with other hosts, such as the uplink of its rack.
seealso:
  - module: kvmops.cluster.host_info
  - module: kvmops.cluster.migration_plan
"""

EXAMPLES = r"""
- name: Take a snapshot of every host
  kvmops.cluster.host_info:
    name: "{{ inventory_hostname }}"
  register: seen
  failed_when: false
  ignore_unreachable: true

- name: Put the snapshots together
  run_once: true
  kvmops.cluster.cluster_view:
    snapshots_from: seen
    required: [h1]
  register: view
"""

RETURN = r"""
at:
  description: When the view was made, by the controller's clock.
  returned: success
  type: str
  sample: "2026-11-24T02:00:00.120Z"
snapshots:
  description: The snapshots of the hosts that answered, by host.
  returned: success
  type: dict
absent:
  description: The hosts that gave no answer, each with C(host) and C(reason).
  returned: success
  type: list
  elements: dict
open:
  description: The hosts that may take guests, because they are neither cordoned nor in maintenance.
  returned: success
  type: list
  elements: str
  sample: [h2, h3]
connect:
  description: How each host is reached by the others, as O(kvmops.cluster.migration_plan#module:connect) takes it.
  returned: success
  type: dict
  sample:
    h2: {connect_uri: qemu+ssh://root@h2/system, migration_address: 198.18.0.12, bandwidth_mib_s: 1100.0, link: rack7}
endpoints:
  description: The same as a list, as O(kvmops.cluster.migration_path_info#module:destinations) takes it.
  returned: success
  type: list
  elements: dict
  sample: [{name: h2, uri: qemu+ssh://root@h2/system, migration_address: 198.18.0.12}]
"""

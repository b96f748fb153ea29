#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_view
short_description: Collect the snapshots of all hosts of a play
version_added: 0.1.0
description:
  - Collects what M(kvmops.cluster.host_info) returned on each host of a play.
  - Names the hosts that did not answer, each with the reason.
  - Run it with C(run_once).
author:
  - kvmops.cluster contributors (@kvmops)
options:
  snapshots_from:
    description:
      - The variable in which the task with M(kvmops.cluster.host_info) registered its result, or several such
        variables.
      - A task may loop over names of hosts with C(delegate_to). Then each result of the loop belongs to the host of
        that name.
    type: list
    elements: str
    required: true
  hosts:
    description: The hosts whose results are collected. By default all hosts of the play.
    type: list
    elements: str
  required:
    description:
      - Hosts that must have answered. The task fails if one of them did not.
      - Any other host that did not answer is left out, with a warning.
    type: list
    elements: str
    default: []
  before:
    description:
      - What this module returned a moment ago. Hosts that were not asked again are as they were then.
    type: dict
extends_documentation_fragment:
  - kvmops.cluster.attributes.controller
notes:
  - The inventory variable C(kvmops_cluster_connect_uri) of a host is the URI at which the other hosts reach its
    libvirtd. By default it is C(qemu+ssh://root@HOST/system).
  - The inventory variable C(kvmops_cluster_migration_address) of a host is the address to which the other hosts send
    guests.
  - The inventory variable C(kvmops_cluster_bandwidth_mib_s) of a host is the bandwidth of its migration network.
  - The inventory variable C(kvmops_cluster_link) of a host names a link that it shares with other hosts, such as the
    uplink of its rack.
  - The inventory variable C(kvmops_cluster_same_servers) has a list for each storage server that hosts mount under
    several names, with these names.
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

- name: Collect the snapshots
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
  description: The hosts that did not answer, each with C(host) and C(reason).
  returned: success
  type: list
  elements: dict
open:
  description: The hosts that may take guests. They are neither cordoned nor in maintenance.
  returned: success
  type: list
  elements: str
  sample: [h2, h3]
files:
  description:
    - Files that guests name, such as kernels and firmware, without those on shared storage.
    - They are for O(kvmops.cluster.host_info#module:files).
  returned: success
  type: list
  elements: str
  sample: [/srv/boot/vmlinuz]
unasked:
  description:
    - Hosts that have not told about each of RV(files). A plan does not know whether the guests that name the others can
      run there.
  returned: success
  type: list
  elements: str
  sample: [h3]
connect:
  description: How the other hosts reach each host, in the form of O(kvmops.cluster.migration_plan#module:connect).
  returned: success
  type: dict
  sample:
    h2: {connect_uri: qemu+ssh://root@h2/system, migration_address: 198.18.0.12, bandwidth_mib_s: 1100.0, link: rack7}
addresses:
  description: The same for all hosts that were asked, also for those that gave no snapshot.
  returned: success
  type: dict
endpoints:
  description: RV(connect) as a list, in the form of O(kvmops.cluster.migration_path_info#module:destinations).
  returned: success
  type: list
  elements: dict
  sample: [{name: h2, uri: qemu+ssh://root@h2/system, migration_address: 198.18.0.12}]
"""

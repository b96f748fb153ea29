#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: Take a snapshot of a host and its guests
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - Returns what a host is, what it has free, what its software can do in a migration, and all its guests.
  - Says for each guest what would stop it from leaving, and for each disk whether other hosts see the same disk.
  - Makes one read-only connection and asks in bulk. A guest whose QEMU hangs does not delay it.
extends_documentation_fragment:
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.action_group
  - kvmops.cluster.attributes.info_module
  - kvmops.cluster.connection
  - kvmops.cluster.shared_devices
  - kvmops.cluster.state_dir
options:
  cpu_sample_s:
    description:
      - Seconds for measuring how many CPUs each guest uses (C(cpus_used)). The module takes that much longer.
      - With V(0) nothing is measured. A rebalance then uses earlier measurements, or the number of virtual CPUs.
    type: float
    default: 0
  files:
    description:
      - Paths of files that guests of other hosts name, such as kernels. The snapshot tells whether this host has them
        (C(resources.files)).
      - Files on shared storage are not looked up.
    type: list
    elements: str
    default: []
seealso:
  - module: kvmops.cluster.migration_path_info
    description: Proves that guests can get from one host to another.
"""

EXAMPLES = r"""
- name: Take a snapshot that also tells how busy each guest is
  kvmops.cluster.host_info:
    name: "{{ inventory_hostname }}"
    cpu_sample_s: 2
  register: host_snapshot

- name: Take a snapshot of every hypervisor
  kvmops.cluster.host_info:
    name: "{{ inventory_hostname }}"
  register: host_snapshot

- name: Show what cannot leave this host, and why
  ansible.builtin.debug:
    msg: "{{ item.name }}: {{ item.blockers | map(attribute='reason') | join('; ') }}"
  loop: "{{ host_snapshot.snapshot.domains | selectattr('blockers') }}"
  loop_control:
    label: "{{ item.name }}"
"""

RETURN = r"""
snapshot:
  description:
    - The host and its guests, as the document C(kvmops.snapshot/1).
    - A value that could not be learned is V(null).
  returned: success
  type: dict
  contains:
    schema:
      description: Name and version of this document.
      returned: success
      type: str
      sample: kvmops.snapshot/1
    host:
      description: The host's name in the inventory.
      returned: success
      type: str
      sample: h1
    hostname:
      description: What the host calls itself.
      returned: success
      type: str
      sample: h1.example.org
    host_uuid:
      description: The host's UUID as libvirt tells it. libvirt refuses to migrate between hosts with the same one.
      returned: success
      type: str
      sample: 5b5e2c0c-7d54-4b6c-8a5e-0d5f6f0f3c11
    taken_at:
      description: When the snapshot was taken, in UTC.
      returned: success
      type: str
      sample: '2026-11-24T02:00:00.120Z'
    versions:
      description: Versions of C(libvirt), C(qemu), libvirt's Python C(binding) and the C(kernel).
      returned: success
      type: dict
      sample: {libvirt: 11.3.0, qemu: 10.0.13, binding: 11.3.0, kernel: 6.12.48}
    capacity:
      description: CPUs and memory, in all and free, by NUMA cell and page size.
      returned: success
      type: dict
      sample: {cpus: 16, memory_bytes: 68719476736, available_bytes: 32212254720, cells: []}
    pressure:
      description:
        - Shares of the last minute for which something on the host waited for C(cpu), C(memory) and C(io), from 0 to 1,
          as the kernel tells them (PSI, the line C(some)).
      returned: success
      type: dict
      sample: {cpu: 0.0312, memory: 0.0, io: 0.0013}
    cpu:
      description: Architecture, nearest named model, vendor and further features of the host's CPU.
      returned: success
      type: dict
      sample: {arch: x86_64, model: Skylake-Server, vendor: Intel, features: [avx512f]}
    emulators:
      description: What guests can run on here, with the machine types and the usable CPU models of each.
      returned: success
      type: list
      elements: dict
    migration:
      description: What the host can do in a migration, why not otherwise, and the known bugs of its versions.
      returned: success
      type: dict
    links:
      description: Network interfaces with addresses, speed and state.
      returned: success
      type: list
      elements: dict
      sample: [{name: eth1, addresses: [198.18.0.11/24], speed_mbit: 10000, up: true}]
    mounts:
      description: Mounted file systems that can hold disks, and whether other hosts share them.
      returned: success
      type: list
      elements: dict
      sample: [{path: /shared, type: nfs4, source: 'nas:/guests', shared: true}]
    resources:
      description:
        - What the host has of the things that guests name. Networks, storage pools, secrets, interfaces, CPUs and files
          are among them.
      returned: success
      type: dict
      sample: {bridges: [br0], networks: {default: true}, pools: {vms: false}, cpus: 0-15}
    sysctls:
      description: Kernel settings that matter for migrations.
      returned: success
      type: dict
      sample: {vm.unprivileged_userfaultfd: '0'}
    rights:
      description:
        - As whom the host was looked at, whether that is root, and whether libvirt asks polkit about each call.
      returned: success
      type: dict
      sample: {user: kvmops, root: false, checks_calls: true}
    maintenance:
      description: The host's maintenance record, see M(kvmops.cluster.host_maintenance).
      returned: success
      type: dict
      sample: {schema: kvmops.maintenance/1, state: active, owner: null, reason: null, since: null}
    storage_pools:
      description: libvirt's storage pools, with their volumes and the room in them. V(null) without a storage driver.
      returned: success
      type: list
      elements: dict
      sample:
        - name: images
          type: dir
          path: /var/lib/libvirt/images
          active: true
          capacity_bytes: 107374182400
          available_bytes: 53687091200
          volumes: [db1.qcow2]
    left_copies:
      description: Images that guests have left here, unchanged since then. See M(kvmops.cluster.disk_copies).
      returned: success
      type: list
      elements: dict
    begun_copies:
      description:
        - Images at other hosts to which a run has begun to copy disks of guests of this host, and which it could not
          remove. The next move of the guest to that host overwrites them.
      returned: success
      type: list
      elements: dict
    capsule_tools:
      description: Whether the host has each program and Python library that capsules need. A move does not need them.
      returned: success
      type: dict
      sample: {qemu-nbd: true, qemu-img: true, ssh: true, ssh-keygen: true, nbd: true, zstandard: false}
    domains:
      description: The guests, by name, whether they run or not.
      returned: success
      type: list
      elements: dict
      contains:
        name:
          description: The guest's name.
          returned: success
          type: str
          sample: web1
        uuid:
          description: The guest's UUID.
          returned: success
          type: str
          sample: 4dea22b3-1d52-d8f3-2516-782e98ab3fa0
        state:
          description: What the guest does, such as V(running), V(paused) or V(shutoff).
          returned: success
          type: str
          sample: running
        memory_bytes:
          description: The guest's memory.
          returned: success
          type: int
          sample: 536870912
        cpus_used:
          description: How many CPUs the guest used while it was watched. V(null) without O(cpu_sample_s).
          returned: success
          type: float
          sample: 0.42
        disks:
          description: The guest's disks, each with where it is and whether other hosts share it.
          returned: success
          type: list
          elements: dict
        requires:
          description: What the guest names on its host and needs at a destination.
          returned: success
          type: list
          elements: dict
          sample: [{kind: bridge, name: br0}]
        job:
          description: The job that works on the guest, if any.
          returned: success
          type: dict
          sample: {operation: migration_out, elapsed_s: 4.2}
        blockers:
          description: What stops the guest from leaving, whatever the destination.
          returned: success
          type: list
          elements: dict
          sample:
            - code: hostdev
              reason: 'PCI device 0000:3b:00.0 of the host is passed through'
              remedy: detach it, or shut the guest down
        remarks:
          description: What is to be known of the guest before it moves. It does not keep the guest.
          returned: success
          type: list
          elements: dict
        managed_by:
          description: Another manager that owns the guest, such as V(OpenStack) or V(pacemaker), or V(null).
          returned: success
          type: str
        limits:
          description: Limits of the guest's own for the memory and the CPU time of its QEMU, or V(null).
          returned: success
          type: dict
        metadata:
          description: What the guest's XML holds for this collection, such as its home and its group.
          returned: success
          type: dict
          sample: {home: h1, group: {apart: web, together: null}, intent: {max_downtime_ms: 200}}
refusal:
  description: Why the snapshot could not be taken, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
  sample:
    code: no_daemon
    reason: no connection to qemu:///system
    remedy: 'start libvirt there: systemctl start libvirtd.socket'
"""

import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.local_connection import connected
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import (
    CONNECTION_ARGUMENTS,
    SHARED_DEVICES_ARGUMENT,
    host_name,
    local_uri,
    run,
    shared_devices,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import host

#: Longer than a minute tells nothing more about the next hour.
MOST_CPU_SAMPLE_S = 60.0


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            **SHARED_DEVICES_ARGUMENT,
            "cpu_sample_s": {"type": "float", "default": 0},
            "files": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )

    def body() -> dict[str, t.Any]:
        devices = shared_devices(module.params)
        with connected(local_uri(module), read_only=True) as connection:
            taken = host.snapshot(
                connection,
                name=host_name(module),
                state_dir=Path(module.params["state_dir"]),
                cpu_sample_s=min(MOST_CPU_SAMPLE_S, module.params["cpu_sample_s"]),
                files=module.params["files"],
                shared_devices=devices,
            )
        return {"changed": False, "snapshot": taken}

    run(module, body)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: metrics_program
short_description: Put the program that writes metrics on a host
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - Puts what M(kvmops.cluster.host_metrics) does on the host, as one file that its Python runs without Ansible and
    without this collection. It needs nothing but the libvirt binding.
  - Part of the role P(kvmops.cluster.observe#role), which lets a timer start it.
extends_documentation_fragment:
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.action_group
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  path:
    description:
      - The file. Its folder must exist and be no link, unless in check mode.
    type: path
    default: /usr/local/lib/kvmops/observe.pyz
requirements:
  - python3-libvirt on the hypervisor, 9.0 or later, for the Python interpreter of the system
seealso:
  - module: kvmops.cluster.host_metrics
    description: Does the same at once, by Ansible.
"""

EXAMPLES = r"""
- name: Put the program on the host
  kvmops.cluster.metrics_program:
  register: program

- name: Run it once, with these settings
  ansible.builtin.command:
    argv: ["{{ program.interpreter }}", "-I", "{{ program.path }}", /etc/kvmops-observe.json]
  changed_when: true
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: /usr/local/lib/kvmops/observe.pyz
interpreter:
  description: A Python of the host that has the libvirt binding.
  returned: success
  type: str
  sample: /usr/bin/python3
refusal:
  description: Why the file was not written, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
  sample:
    code: no_textfile_folder
    reason: there is no folder /usr/local/lib/kvmops
    remedy: make it, or name another path; the exporter reads that of --collector.textfile.directory
"""

import sys
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.run import loaded_code
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import run
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.observe import observe_program, textfile


def main() -> None:
    module = AnsibleModule(
        argument_spec={"path": {"type": "path", "default": "/usr/local/lib/kvmops/observe.pyz"}},
        supports_check_mode=True,
    )
    run(module, lambda: _body(module))


def _body(module: AnsibleModule) -> dict[str, t.Any]:
    path = str(module.params["path"])
    code = loaded_code.program(observe_program.__name__, loaded_code.COLLECTION)
    changed = textfile.content_bytes(path) != code
    if changed and not module.check_mode:
        textfile.replace(path, code)
    return {"changed": changed, "path": path, "interpreter": sys.executable or "/usr/bin/python3"}


if __name__ == "__main__":
    main()

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # Must be kept in sync with CONNECTION_ARGUMENTS in plugins/module_utils/virt/connect/module.py.
    DOCUMENTATION = r"""
options:
  uri:
    description:
      - The libvirt URI of the host that the module runs on.
      - It must lead to this very host, because the module also reads files of the host.
    type: str
    default: qemu:///system
  name:
    description:
      - The name of this host in all documents and messages.
      - Use the name of the host in the inventory. Plans use that name, too.
      - By default the host name that the host itself has.
    type: str
requirements:
  - python3-libvirt on the hypervisor, 9.0 or later, for the Python interpreter of the system
notes:
  - The module runs on the hypervisor. If its Python interpreter has no libvirt binding, it starts itself again with the
    interpreter of the system that has the binding.
"""

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection.

from __future__ import annotations


class ModuleDocFragment:
    # Must be kept in sync with CAPSULE_DIR_ARGUMENT in plugins/module_utils/run/capsule_store/store.py.
    DOCUMENTATION = r"""
options:
  capsule_dir:
    description:
      - Directory of the host's capsules and images. Only root may write into it.
      - QEMU reads images in it. Where AppArmor or SELinux confine QEMU, a directory below C(/var/lib/libvirt) needs no
        further settings.
    type: path
    default: /var/lib/libvirt/capsules
"""

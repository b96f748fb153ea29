# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection.

from __future__ import annotations


class ModuleDocFragment:
    # Must be kept in sync with REQUIRE_ENCRYPTED_ARGUMENT in plugins/module_utils/run/capsule_store/store.py.
    DOCUMENTATION = r"""
options:
  require_encrypted:
    description:
      - Whether the memory of guests is written to O(capsule_dir) only if that is on devices that encrypt (dm-crypt, as
        LUKS is), all of them. Otherwise the task is refused before the guest stops and before anything is sent.
      - This also guards against a LUKS device that was not opened after a boot, so that its mount point is on the disk
        of the system.
      - A file system that encrypts by itself (ZFS, fscrypt) or is on a network is refused, too, as nobody can tell.
    type: bool
    default: false
"""

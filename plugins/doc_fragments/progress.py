# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection.

from __future__ import annotations


class ModuleDocFragment:
    # Must be kept in sync with PROGRESS_ARGUMENT in plugins/module_utils/virt/capsule/live_lines.py.
    DOCUMENTATION = r"""
options:
  progress_path:
    description:
      - Where the host links the file with the live lines. The part of this module on the controller sets it.
    type: path
"""

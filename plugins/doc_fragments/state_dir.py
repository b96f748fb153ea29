# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection.

from __future__ import annotations


class ModuleDocFragment:
    # Must be kept in sync with STATE_DIR_ARGUMENT in plugins/module_utils/run/state_dir.py.
    DOCUMENTATION = r"""
options:
  state_dir:
    description:
      - The directory on the host in which this collection keeps its records.
    type: path
    default: /var/lib/kvmops
"""

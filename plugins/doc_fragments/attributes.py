# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # Every module has these.
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return whether it would change anything, without changing the target.
  diff_mode:
    description: Returns what has changed (or would change, in C(check_mode)) when in diff mode.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system controlled by the module has not changed in a relevant way.
"""

    # For modules that only look.
    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This module does not modify state. It opens read-only connections only.
  diff_mode:
    support: N/A
    details:
      - This module does not modify state.
  idempotent:
    support: full
    details:
      - This module does not modify state.
"""

    ACTION_GROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/kvmops.cluster.all) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - kvmops.cluster.all
"""

    # For modules that run as a job of their own and show live lines.
    LIVE = r"""
options: {}
attributes:
  action:
    description: One part runs on the controller. It shows what the part on the host reports.
    support: full
  async:
    description: Supports being run with the C(async) keyword.
    support: none
    details:
      - It is an asynchronous job already.
"""

    # For modules whose work is done by the action plugin of the same name.
    CONTROLLER = r"""
options: {}
attributes:
  action:
    description: Runs on the controller.
    support: full
  check_mode:
    description: Can run in check mode. Changes nothing.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
notes:
  - This module is an action plugin. It runs on the controller only and opens no connection.
"""

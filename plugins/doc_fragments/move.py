# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection.

from __future__ import annotations


class ModuleDocFragment:
    # Must be kept in sync with MOVE_ARGUMENTS in plugins/module_utils/virt/move/settings.py.
    DOCUMENTATION = r"""
options:
  reserve_mib:
    description:
      - Memory that must stay free at the destination, in MiB.
    type: int
    default: 0
  incoming_limit:
    description:
      - Guests that may come in at the destination at once, from all sources together.
    type: int
    default: 1
  tune_network:
    description:
      - Permit to bound what waits unsent in the connection over which QEMU sends a guest (C(TCP_NOTSENT_LOWAT)). All
        that waits there when a guest is stopped keeps it down. At 200 Mbit/s an idle guest was down for 40 ms, not 90.
      - Touches that one connection, through C(pidfd_getfd), and ends with it. No setting of the host is changed.
      - Needs root and Linux 5.6 on this host. Where it cannot be done the journal says why, and the move goes on.
    type: bool
    default: false
  progress_path:
    description:
      - Where the host links the file with the live lines. Set by the controller half of this module.
    type: path
"""

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
      - How many guests may arrive at the destination at once, from all sources together.
    type: int
    default: 1
  tune_network:
    description:
      - Permit a limit for the send buffer of the connection over which QEMU sends a guest (C(TCP_NOTSENT_LOWAT)). What
        is in the buffer when the guest stops makes its downtime longer. At 200 Mbit/s the downtime of an idle guest was
        40 ms with the limit, and 90 ms without it.
      - Changes only this one connection, through C(pidfd_getfd). The limit ends with the connection. No setting of the
        host is changed.
      - Needs root and Linux 5.6 or later on this host. If the limit cannot be set, the journal says why, and the move
        continues.
    type: bool
    default: false
  guest_hooks:
    description:
      - Whether the hooks that stand in a guest's metadata are run. They are written by whoever owns the guest.
        Those commands run in the guest only, and those checks connect to the guest's own addresses only.
      - A guest has 8 of them at most. Each takes 60 s at most and starts 60 s before or after the move at most, and all
        of them may take 120 s in one move. A guest with more does not move; others do.
      - If they are not permitted, they are not run, and the result of the step has a note.
    type: bool
    default: false
  progress_path:
    description:
      - Where the host links the file with the live lines. The part of this module on the controller sets it.
    type: path
  keep_runs:
    description:
      - So many of the newest runs keep their records on this host. With V(0), any number.
      - A run is never removed while it is at work, if it was broken off, or if a record of the host names it or a guest
        that it has not done with.
    type: int
    default: 200
  keep_days:
    description:
      - Records of runs, and what was learned of guests that were neither measured nor moved since, are removed after so
        many days. With V(0), at any age they stay.
    type: int
    default: 90
  tickets:
    description:
      - For disks that come after their guest (lazy). Tickets of the destinations, by their names, as
        M(kvmops.cluster.capsule_export) returns them there.
    type: dict
    default: {}
"""

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection.

from __future__ import annotations


class ModuleDocFragment:
    # Must be kept in sync with INTENT_ARGUMENTS in plugins/module_utils/virt/move/settings.py.
    DOCUMENTATION = r"""
options:
  max_downtime_ms:
    description:
      - The longest time the guest may stand still at the switchover, in milliseconds.
      - A move begins with a lower limit and goes up to this one only where the guest needs it.
    type: int
    default: 500
  max_slowdown_pct:
    description:
      - The most the guest may be slowed down while it moves, in per cent. By default anything goes.
      - Nothing slows a guest down on purpose yet, so this only forbids what later strategies may do.
    type: int
  deadline_s:
    description:
      - Give the move up after so many seconds; the guest then stays where it is.
      - This holds for a guest that was stopped to finish as well; it then goes on where it was. Only the switch to
        post-copy cannot be taken back.
      - By default a move goes on as long as it makes progress.
    type: int
  allow_postcopy:
    description:
      - Permit to switch to post-copy where pre-copy does not converge.
      - From then on the guest needs both hosts and the link between them until the move is over.
    type: bool
    default: false
  allow_suspend:
    description:
      - Permit to stop the guest until the move is over where nothing else ends it.
      - It goes on where it was if O(deadline_s) passes meanwhile, or if the link gives less than a tenth of what it
        gave before for 90 seconds.
    type: bool
    default: false
  allow_shutdown:
    description:
      - Permit to shut the guest down while its host is away for a rolling upgrade, where it cannot be moved, and to
        start it there again. It has no effect on moves, as no guest is shut down to be moved.
    type: bool
    default: false
  allow_storage_copy:
    description:
      - Permit to copy disks over the network that the destination does not share.
    type: bool
    default: false
  bandwidth_mib_s:
    description:
      - The most the move may use of the link, in MiB per second. By default all of it.
    type: int
  bandwidth_floor_mib_s:
    description:
      - Go easy on a link that guests use as well. The first round is sent at this rate, in MiB per second, and each
        later one as fast as the guest dirtied memory in the round before, plus 6 MiB/s, up to O(bandwidth_mib_s). Disks
        that are copied go at this rate, too. The move takes longer. By default every round goes as fast as it may.
    type: int
  encryption:
    description:
      - V(required) encrypts memory and disks on the wire with TLS, for which both hosts need certificates.
      - V(off) sends them in the clear.
    type: str
    choices: [required, "off"]
    default: required
"""

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
      - The longest time that the guest may stand still at the switchover, in milliseconds.
      - A move begins with a lower limit, and raises it up to this one only if the guest needs it.
    type: int
    default: 500
  max_slowdown_pct:
    description:
      - The most work that the guest may lose while it moves, in per cent. No limit by default.
      - A method that costs the guest more is not chosen, such as a throttle.
    type: int
  deadline_s:
    description:
      - Give the move up after so many seconds; the guest then stays where it is.
      - A guest that was stopped to finish then resumes at the source. Only the switch to post-copy cannot be taken
        back.
      - By default a move goes on as long as it makes progress.
    type: int
  allow_postcopy:
    description:
      - Permit the switch to post-copy if pre-copy does not converge.
      - From then on the guest needs both hosts and the link between them until the move is over.
      - Besides V(true) and V(false), this can be V(recoverable). Then post-copy is permitted only between two hosts
        whose libvirt can resume it if the link breaks (M(kvmops.cluster.migration_recover)).
    type: raw
    default: false
  allow_suspend:
    description:
      - Permit stopping the guest until the move is over if nothing else ends it.
      - The guest resumes at the source if O(deadline_s) passes, or if the link gives less than a tenth of its earlier
        speed for 90 seconds.
    type: bool
    default: false
  allow_shutdown:
    description:
      - Permit a rolling upgrade to shut the guest down while its host is away, if the guest cannot be moved, and to
        start it there again. It has no effect on moves. No guest is shut down to be moved.
    type: bool
    default: false
  allow_storage_copy:
    description:
      - Permit copying disks over the network that the destination does not share.
    type: bool
    default: false
  allow_managed:
    description:
      - Permit moving a guest that another manager owns, such as OpenStack, oVirt, OpenNebula, KubeVirt or pacemaker.
        The manager is not told where the guest runs afterwards.
    type: bool
    default: false
  bandwidth_mib_s:
    description:
      - The most the move may use of the link, in MiB per second. By default all of it.
    type: int
  bandwidth_floor_mib_s:
    description:
      - For a link that guests use, too. The first round is sent at this rate, in MiB per second. Each later round is
        sent at the dirty rate of the round before plus 6 MiB/s, up to O(bandwidth_mib_s). Disks are copied at this
        rate, too. The move takes longer. By default every round is sent as fast as possible.
    type: int
  encryption:
    description:
      - V(required) encrypts memory and disks on the wire with TLS, for which both hosts need certificates.
      - V(off) sends them in the clear.
    type: str
    choices: [required, "off"]
    default: required
  disks:
    description:
      - How disks get there that the destination does not share, if O(allow_storage_copy) permits it.
      - V(copy) copies them before the guest runs there.
      - V(lazy) lets the guest run there first. It reads from the source what it needs, and
        M(kvmops.cluster.capsule_fill) fetches the rest. Until that has ended, the guest needs both hosts.
      - V(delta) sends what differs from the copy that the guest has left at the destination.
    type: str
    choices: [copy, lazy, delta]
    default: copy
"""

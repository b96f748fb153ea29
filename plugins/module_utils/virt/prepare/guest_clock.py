# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the clock of a guest that stood still. It goes on from where it stopped.

from __future__ import annotations

import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import MOST_OF_ERROR, one_line
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.corrections import Corrections
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import quoted
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Step
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import guest_xml
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import UnansweredError, within

#: A clock that is behind by no more than this is within what chrony and ntpd correct by themselves in a moment.
NOTICEABLE_MS = 1000
#: How long an agent may take to set the clock. libvirt itself waits without an end.
AGENT_TIMEOUT_S = 10.0
AGENT_CHANNEL = "org.qemu.guest_agent.0"


def correct(domain: t.Any, step: Step, stopped_ms: int | None) -> Corrections:
    """Set the clock of a guest that stood still for a noticeable time, through its agent.

    Args:
        domain: the guest, where it runs now, on a writable connection.
        step: of the plan.
        stopped_ms: how long it stood still; None where nobody saw that.
    """
    if stopped_ms is None or stopped_ms <= NOTICEABLE_MS:
        return Corrections()
    behind = f"{stopped_ms / 1000:.1f} s"
    try:
        if guest_xml.parse(domain.XMLDesc(0)).find(f"devices/channel/target[@name='{AGENT_CHANNEL}']") is None:
            return Corrections(
                notes=[f"its clock may be {behind} behind, and it has no guest agent to set it: {_BY_ITSELF}"]
            )
        within(AGENT_TIMEOUT_S, lambda: _set(domain))
    except (virt.libvirt.libvirtError, UnansweredError) as error:
        # libvirt's error may have words of the agent in it.
        why = one_line(error, MOST_OF_ERROR) or f"its agent did not answer within {AGENT_TIMEOUT_S:.0f} s"
        by_hand = f"virsh domtime --sync {quoted(step['guest']['name'])} on {step['destination']}"
        return Corrections(notes=[f"its clock may be {behind} behind ({why}): {by_hand}"])
    return Corrections(done=[f"set its clock, which was {behind} behind"])


_BY_ITSELF = "chrony or ntpd in the guest corrects it"


def _set(domain: t.Any) -> None:
    """Set the clock from the guest's own hardware clock, which went on; else from this host's time."""
    lib = virt.libvirt
    try:
        domain.setTime(flags=lib.VIR_DOMAIN_TIME_SYNC)
    except lib.libvirtError as error:
        if error.get_error_code() == lib.VIR_ERR_AGENT_UNRESPONSIVE:
            raise
        seconds, nanoseconds = divmod(round(time.time() * 1e9), 10**9)
        domain.setTime(time={"seconds": seconds, "nseconds": nanoseconds}, flags=0)

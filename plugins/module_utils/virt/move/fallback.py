# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: whether a guest that stayed at its source is tried again, by another method.

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.appraisal import Knowledge
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import Decision
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.rescale import rescaled
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.ending import MigrationEnding

#: Attempts after the first one. Each costs time and bytes.
MAX_FALLBACKS = 2
#: The control gave up because of the method, not because of the time that is left.
METHOD_FAILED = ("does_not_converge", "wrong_method")
#: Methods that need a capability of QEMU. Post-copy is enabled beside most methods.
NEEDS_CAPABILITY = ("xbzrle", "parallel-zstd", "throttle")
#: Methods that send pages as they are. What a round leaves is then what the guest has dirtied.
PLAIN = ("pre-copy", "raise-downtime", "post-copy", "suspend")
#: How a destination ends that refuses post-copy, where libvirt ends the QEMU there before it has passed on why.
ENDED_AT_ONCE = ("End of file while reading data", "closed the monitor", "from monitor")


@dataclasses.dataclass
class FallbackHistory:
    """The attempts of a step that failed.

    Attributes:
        methods: those that failed.
        flags: of each attempt, so that none is made twice.
        bytes_per_s: the rate that was seen on the link, or None.
        left_bytes: what the last round left, of a method that sends pages as they are; or None.
        reason: why the last attempt failed, in words.
        forecast_was_wrong: whether the last attempt was ended early because the link was not as forecast.
    """

    methods: list[str] = dataclasses.field(default_factory=list)
    flags: list[tuple[str, ...]] = dataclasses.field(default_factory=list)
    bytes_per_s: float | None = None
    left_bytes: int | None = None
    reason: str = ""
    forecast_was_wrong: bool = False

    def add(self, decision: Decision, ending: MigrationEnding) -> bool:
        """Add an attempt that failed; returns whether another one makes sense."""
        self.flags.append(decision.flags)
        if len(self.flags) > MAX_FALLBACKS:
            return False
        if "bandwidth" not in decision.parameters:
            # A move with a limit on its rate shows that limit, and not the rate of the link.
            self.bytes_per_s = ending.observation.bytes_per_s or self.bytes_per_s
        self.forecast_was_wrong = ending.abort_reaction is not None and ending.abort_reaction.code == "wrong_method"
        if ending.abort_reaction:
            self.reason = ending.abort_reaction.reason
            if not self.forecast_was_wrong:
                self.methods.append(decision.method)
            if ending.abort_reaction.code == "does_not_converge" and decision.method in PLAIN:
                self.left_bytes = ending.observation.last_bytes
            return ending.abort_reaction.code in METHOD_FAILED
        if _not_offered(ending):
            self.reason = f"one of the hosts does not offer that: {ending.error}"
            blamed = _blamed(decision, str(ending.error))
            self.methods += blamed
            return bool(blamed)
        if _may_be_postcopy(decision, ending):
            self.reason = f"nothing was sent, and the destination may not offer post-copy: {ending.error}"
            self.methods.append("post-copy")
            return True
        return False

    def is_new(self, decision: Decision) -> bool:
        """Whether an attempt differs from those before it. After a new forecast the same method may be the best."""
        return self.forecast_was_wrong or decision.flags not in self.flags

    def applied_to(self, known: Knowledge) -> Knowledge:
        """What is known, with the rate and the dirty rate that the failed attempts have shown."""
        if self.bytes_per_s is None:
            return known
        working_set = known.working_set
        if working_set is not None and self.left_bytes is not None:
            working_set = rescaled(working_set, self.left_bytes, self.bytes_per_s)
        # Whoever shares the link did so while that rate was seen.
        return dataclasses.replace(known, working_set=working_set, stated_bytes_per_s=self.bytes_per_s, at_once=1)


def _blamed(decision: Decision, error: str) -> list[str]:
    """The methods whose capability was refused: post-copy if the error names it, or else all that may be meant."""
    armed = ["post-copy"] if "POSTCOPY" in decision.flags else []
    if armed and "postcopy" in error.lower().replace("-", ""):
        return armed
    return [*([decision.method] if decision.method in NEEDS_CAPABILITY else []), *armed]


def _may_be_postcopy(decision: Decision, ending: MigrationEnding) -> bool:
    """Whether the destination may have ended its QEMU because post-copy was enabled; only it knows its kernel."""
    if not _nothing_sent(ending) or "POSTCOPY" not in decision.flags:
        return False
    return any(words in str(ending.error) for words in ENDED_AT_ONCE)


def _nothing_sent(ending: MigrationEnding) -> bool:
    return bool(ending.error) and not ending.memory_bytes and not ending.disk_bytes and not ending.maybe_postcopy


def _not_offered(ending: MigrationEnding) -> bool:
    """Whether libvirt or QEMU refused a capability before anything was sent."""
    if not ending.error or ending.memory_bytes or ending.maybe_postcopy:
        return False
    lib = virt.libvirt
    codes: t.Collection[int] = (
        lib.VIR_ERR_ARGUMENT_UNSUPPORTED,
        lib.VIR_ERR_CONFIG_UNSUPPORTED,
        lib.VIR_ERR_OPERATION_UNSUPPORTED,
    )
    return ending.error_code in codes or "'migrate-set-" in ending.error

# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The error of this folder: what is wrong with one capsule, manifest or transfer, and what to do about it."""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal


class CapsuleError(Exception):
    """Something about a capsule is refused; C(refusal) says what and what to do next."""

    def __init__(self, code: str, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.refusal: Refusal = refusal(code, reason, remedy)

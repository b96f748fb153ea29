# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Why something cannot be done, in the three words used everywhere (docs/contracts.md, "Refusal")."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible

#: What finishes moves that broke off. Its --check says what it would do.
RECOVER = "ansible-playbook kvmops.cluster.recover"


class Refusal(t.TypedDict):
    """A code for machines, a sentence about this guest or host, and what to do next."""

    code: str
    reason: str
    remedy: str


def refusal(code: str, reason: str, remedy: str) -> Refusal:
    """Make a refusal.

    ``code`` is stable and in snake_case; ``reason`` is a sentence without a full stop about this very guest or host;
    ``remedy`` is an instruction the operator can follow. Names and errors in them are other people's words.
    """
    return {"code": code, "reason": visible(reason), "remedy": visible(remedy)}


def sentence(refused: Refusal) -> str:
    """One refusal as one line of text.

    >>> sentence(refusal("memory", "h2 is 1.0 GiB short", "free memory on h2"))
    'h2 is 1.0 GiB short: free memory on h2'
    """
    return visible(f"{refused['reason']}: {refused['remedy']}" if refused["remedy"] else refused["reason"])

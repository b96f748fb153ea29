# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: words and times that all parts of a page share.

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.parts import Outcome
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.report_table import OUTCOMES

#: Of each outcome (docs/contracts.md, "Step result") a sign, and whether it is good.
_SIGNS = {
    "moved": ("\N{CHECK MARK}", "good"),
    "already_there": ("\N{CHECK MARK}", "good"),
    "planned": ("\N{RIGHTWARDS ARROW}", "plain"),
    "not_started": ("\N{EN DASH}", "open"),
    "refused": ("\N{EN DASH}", "open"),
    "failed": ("\N{MULTIPLICATION X}", "bad"),
    "off": ("!", "bad"),
    "lost": ("!", "bad"),
    "unclear": ("?", "bad"),
}


def outcome_of(outcome: str, kept: bool | None = None) -> Outcome:
    """An outcome in a word.

    Args:
        outcome: of a guest.
        kept: False if the guest stood still for longer than was accepted.
    """
    sign, kind = _SIGNS.get(outcome, ("?", "open"))
    word = OUTCOMES.get(outcome, outcome)
    if kind == "good" and kept is False:
        return Outcome(f"{word}, down for too long", "!", "open")
    return Outcome(word, sign, kind)


def seconds_since_start(at: t.Any, start: t.Any) -> float | None:
    """Seconds from one time of a document to another; None where one is not known."""
    try:
        first, last = (datetime.datetime.fromisoformat(str(one)) for one in (start, at))
        return round((last - first).total_seconds(), 3)
    except (ValueError, TypeError):
        return None


def percent(share: float | None) -> str:
    """A relative error with its sign.

    >>> percent(0.034), percent(-0.2), percent(None)
    ('+3 %', '-20 %', '-')
    """
    return "-" if share is None else f"{100 * share:+.0f} %"

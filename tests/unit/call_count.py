# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much work something is, as a number that is the same on a busy machine and on a quiet one."""

from __future__ import annotations

import sys
import threading


def calls_of(work):
    """How many Python functions some work calls, in all threads."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    threading.setprofile(count)
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return calls

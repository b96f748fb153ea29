# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processor time, which tells how much work something is, also on a machine that does other work meanwhile."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


class Meter:
    """The seconds of processor time that this process, and the children that it has waited for, have taken."""

    def __init__(self) -> None:
        self._not_counted = 0.0

    def read(self) -> float:
        """Return the seconds that count."""
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system - self._not_counted

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Do not count what is done meanwhile."""
        before = self.read()
        try:
            yield
        finally:
            self._not_counted += self.read() - before


METER = Meter()

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests of the lab may arrive by post-copy. Its hosts have the kernel of this machine, which must permit that."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

USERFAULTFD = Path("/proc/sys/vm/unprivileged_userfaultfd")


@contextlib.contextmanager
def postcopy_permitted(setting: Path = USERFAULTFD) -> Iterator[None]:
    """While inside, QEMU may use userfaultfd on this machine; afterwards it is as it was."""
    before = setting.read_text(encoding="ascii")
    setting.write_text("1", encoding="ascii")
    try:
        yield
    finally:
        setting.write_text(before, encoding="ascii")

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run other programs, and turn their failures into words."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .errors import LabError


def run(
    arguments: Sequence[str | Path],
    *,
    check: bool = True,
    given: str | None = None,
    timeout: float | None = None,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return what it said."""
    words = [str(word) for word in arguments]
    try:
        done = subprocess.run(
            words,
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=environment,
            check=False,
        )
    except FileNotFoundError:
        raise LabError(f"{words[0]} is not installed", "Run `up` again: it installs what it needs.") from None
    except subprocess.TimeoutExpired:
        raise LabError(
            f"{shlex.join(words)[:200]}: no end after {timeout:g} s", "See what it is waiting for."
        ) from None
    if check and done.returncode:
        raise LabError(f"{shlex.join(words)[:200]}: exit status {done.returncode}: {last_words(done)}")
    return done


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """Return the end of what a program said, on one line."""
    lines = (done.stderr or done.stdout or "").strip().splitlines()
    return " / ".join(lines[-3:]) or "it said nothing"

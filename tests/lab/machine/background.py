# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that go on after the command which began them, each in a session of its own.

A program is written down before it does anything. It waits for a word of the command that began it: if that command
dies first, the program ends, for another command may have begun the same program meanwhile.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.common.errors import LabError
from lab.common.settings import SOURCES, Settings

from . import process

#: What a program is told once it is written down.
GO = b"go"


def begin(settings: Settings, name: str, module: str, arguments: Sequence[str], *, record: Path, log: Path) -> None:
    """Begin `python -m module arguments TELL`, where TELL is a descriptor for `wait_for_word`.

    Args:
        name: what it is called in an error.
        record: where it is written down.
        log: gets what it prints.
    """
    environment = dict(
        os.environ,
        PYTHONPATH=str(SOURCES.parent),
        KVMOPS_LAB_STATE=str(settings.state),
        KVMOPS_LAB_CACHE=str(settings.cache),
        KVMOPS_LAB_INSTANCE=str(settings.instance),
    )
    told, tell = os.pipe()
    with log.open("ab") as output:
        first = subprocess.Popen(
            [sys.executable, "-m", module, *arguments, str(tell)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd="/",
            env=environment,
            pass_fds=[tell],
            start_new_session=True,
        )
    os.close(tell)
    # The program is the child of that child, which ends at once: no process here counts the work of guests.
    with os.fdopen(told) as answer:
        number = answer.readline()
    if not number:
        raise LabError(f"{name} did not start", f"See {log}.")
    assert first.stdin is not None
    with first.stdin as word:
        process.remember(record, int(number))
        word.write(GO)
    first.wait()


def wait_for_word(tell: int) -> bool:
    """Go on in a child and tell its number on a descriptor; return whether it has been written down."""
    child = os.fork()
    if child:
        os.write(tell, f"{child}\n".encode())
        os._exit(0)
    os.close(tell)
    if sys.stdin.buffer.read() == GO:
        return True
    print("lab: whoever began this died before writing it down", flush=True)
    return False

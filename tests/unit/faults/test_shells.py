# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import gc
import warnings

from faults.act.shells import Lines


class Machine:
    """Runs here what is to run on a host."""

    def ssh_words(self, command):
        return ["sh", "-c", command]


def test_lines_go_in_and_come_out():
    program = Lines(Machine(), "while read -r line; do echo got $line; done")
    program.say("one")

    assert program.next(30) == "got one\n"
    program.end()


def test_nothing_comes_from_a_program_that_says_nothing():
    program = Lines(Machine(), "exec sleep 600")

    assert program.next(0.01) is None
    program.end()


def test_a_program_that_is_gone_takes_lines_and_leaves_nothing_open():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        program = Lines(Machine(), "exit 0")
        program.say("one")
        program.end()
        program.say("two")
        del program
        gc.collect()

    assert told == []

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import time

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.token_bucket import TokenBucket

PATIENCE_S = 20.0


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def link(clock, script, *words):
    return Link(["sh", "-c", script, "sh", *words], TokenBucket(None, 0.0), clock=clock)


def wait_until(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end


def test_a_link_that_carries_all_at_once_is_not_taken_for_one_as_slow_as_its_sender(clock):
    fast = link(clock, "cat >/dev/null; :")
    for dummy in range(8):
        # The sender needs a second for each piece.
        clock.now += 1.0
        fast.send(bytes(100_000))
        wait_until(lambda: not fast.receive(0.0) and not fast.waiting_bytes and fast._is_idle())
    fast.close()
    assert (fast.sent, fast.rate) == (800_000, None)


def test_the_rate_of_a_link_that_is_kept_busy_is_what_it_carries(clock, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    busy = link(clock, 'head -c 65536 >/dev/null; cat "$1" >/dev/null; cat >/dev/null; :', str(gate))
    busy.send(bytes(600_000))
    clock.now += 1.0
    busy.receive(0.0)
    before = busy.sent
    gate.write_text("")
    wait_until(lambda: not busy.receive(0.01) and busy.sent > before)
    carried = busy.sent - before
    clock.now += 2.0
    busy.receive(0.0)
    busy.close()
    assert busy.rate == carried / 2

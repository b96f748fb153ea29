# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading
import time

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run import file_lock


def test_one_after_the_other(tmp_path):
    path, order = str(tmp_path / "state" / "x.lock"), []
    inside = threading.Event()

    def second():
        inside.wait(5)
        with file_lock.locked(path, 5, 0.001):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with file_lock.locked(path, 5):
        inside.set()
        time.sleep(0.1)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


def test_nobody_waits_for_ever(tmp_path):
    path = str(tmp_path / "x.lock")
    with file_lock.locked(path, 5), pytest.raises(file_lock.StillLockedError), file_lock.locked(path, 0.05, 0.001):
        pass
    with file_lock.locked(path, 0):
        pass

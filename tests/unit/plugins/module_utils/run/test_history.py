# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run import history
from ansible_collections.kvmops.cluster.tests.unit import builders


def measured(number):
    return {**builders.working_set(builders.domain()), "memory_bytes": number + 1}


def test_the_last_measurements_are_kept_in_order_and_the_oldest_forgotten(tmp_path):
    for number in range(history.KEEP + 3):
        history.add_measurement(str(tmp_path), "u1", measured(number))
    kept = [one["memory_bytes"] for one in history.measurements(str(tmp_path), "u1")]
    assert kept == list(range(4, history.KEEP + 4))


@pytest.mark.parametrize("key", ["../../etc/passwd", "h1/h2", "", "host \u2713 'x'", "a" * 500])
def test_any_key_is_kept_and_none_leaves_the_folder(tmp_path, key):
    state_dir = tmp_path / "state"
    history.keep_calibration(str(state_dir), "path", key, {"fixed_s": 0.01})
    assert history.calibration(str(state_dir), "path", key) == {"fixed_s": 0.01}
    assert history.calibrations(str(state_dir), "path") == {key: {"fixed_s": 0.01}}
    assert [one.name for one in tmp_path.iterdir()] == ["state"]


def test_what_was_never_kept_or_is_damaged_is_as_if_nothing_were_known(tmp_path):
    assert history.measurements(str(tmp_path), "u1") == []
    assert history.calibration(str(tmp_path), "path", "h2") is None
    assert history.calibrations(str(tmp_path), "path") == {}
    history.add_measurement(str(tmp_path), "u1", measured(1))
    (damaged,) = (tmp_path / "working_sets").iterdir()
    damaged.write_text('{"key": "u1", "docu', encoding="utf-8")
    assert history.measurements(str(tmp_path), "u1") == []
    history.add_measurement(str(tmp_path), "u1", measured(2))
    assert history.measurements(str(tmp_path), "u1") == [measured(2)]

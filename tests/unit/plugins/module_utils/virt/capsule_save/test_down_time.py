# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import guest_layers
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save import down_time

MB = 1_000_000


@pytest.fixture
def store(tmp_path):
    store = CapsuleStore(str(tmp_path / "capsules"))
    store.prepare()
    return store


def test_nothing_is_known_at_first(store):
    found = down_time.forecast(store, 220 * MB, restores=True)
    assert (found.down_s, found.measured) == (2.9, False)


def test_a_guest_that_stops_is_not_restored_here(store):
    assert down_time.forecast(store, 220 * MB, restores=False).down_s == 1.45


def test_the_next_forecast_is_as_fast_as_the_last_save(store):
    down_time.learn(store, 1000 * MB, saved_s=10.45, restored_s=2.45)
    found = down_time.forecast(store, 1000 * MB, restores=True)
    assert (found.down_s, found.measured) == (12.9, True)
    # A save that was four times as fast counts half.
    down_time.learn(store, 1000 * MB, saved_s=2.95, restored_s=None)
    assert down_time.forecast(store, 1000 * MB, restores=False).down_s == 4.45


@pytest.mark.parametrize(
    "content", ["", "nonsense", '{"schema": "kvmops.capsule_rates/1", "save_bytes_per_s": -1}', "[]"]
)
def test_a_damaged_record_is_none(store, content):
    Path(store.directory, "rates.json").write_text(content, encoding="utf-8")
    assert not down_time.forecast(store, MB, restores=True).measured


def test_a_damaged_record_of_layers_costs_reading_only(store):
    uuid = "0b7fd2f5-8a35-5b62-9ce9-7e4d2b1c9a10"
    with store.guest_lock(uuid):
        Path(store.layers(uuid)).write_text("nonsense", encoding="utf-8")
        assert guest_layers.image_at(store, uuid, "/nowhere") is None
        guest_layers.remember(store, uuid, store.directory, "blocks:" + "0" * 64)
        assert store.directory in Path(store.layers(uuid)).read_text(encoding="utf-8")

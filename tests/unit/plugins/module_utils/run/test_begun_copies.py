# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import begun_copies

GUEST = {"name": "web1", "uuid": "u1"}


@pytest.fixture
def state(tmp_path):
    """h2 failed first, then h3."""
    for destination in ("h2", "h3"):
        begin(str(tmp_path), destination)
    return str(tmp_path)


def begin(state, destination, path="/i/w"):
    disks = [{"target": "vda", "source": "/i/w", "path": path}]
    begun_copies.store(
        state, {"schema": begun_copies.SCHEMA, "guest": GUEST, "destination": destination, "disks": disks}
    )


def destinations(state):
    return [begun["destination"] for begun in begun_copies.read_all(state, "u1")]


def test_a_copy_to_another_host_forgets_none_that_was_begun_before(state):
    assert destinations(state) == ["h3", "h2"]
    assert begun_copies.read(state, "u1", "h2")["disks"][0]["path"] == "/i/w"
    assert begun_copies.read(state, "u1", "h4") is None


def test_a_second_copy_to_the_same_host_takes_the_place_of_the_first(state):
    begin(state, "h2", "/i/new")
    assert destinations(state) == ["h2", "h3"]
    assert begun_copies.read(state, "u1", "h2")["disks"][0]["path"] == "/i/new"


@pytest.mark.parametrize(("ended", "rest"), [("h3", ["h2"]), ("h2", ["h3"]), ("h4", ["h3", "h2"])])
def test_only_the_copy_that_has_ended_is_forgotten(state, ended, rest):
    begun_copies.remove(state, "u1", ended)
    assert destinations(state) == rest


def test_after_the_last_one_there_is_no_record(state, tmp_path):
    for ended in ("h2", "h3"):
        begun_copies.remove(state, "u1", ended)
    assert list((tmp_path / "begun_copies").iterdir()) == []


def test_what_is_broken_in_the_others_makes_it_no_record(state, tmp_path):
    path = tmp_path / "begun_copies/u1.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**document, "others": [{"destination": 7}]}), encoding="utf-8")
    assert begun_copies.read_all(state, "u1") == []
    assert begun_copies.load_all(state) == []

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest

from ansible_collections.kvmops.cluster.plugins.plugin_utils.files.saved_snapshots import SavedError, read
from ansible_collections.kvmops.cluster.tests.unit.builders import cluster, domain, snapshot


def saved(path, document):
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_a_file_has_one_snapshot_or_some(tmp_path):
    hosts = cluster(snapshot("h1", domain("größe")), snapshot("h2"))
    for document in (hosts, list(hosts.values())):
        assert read(saved(tmp_path / "all.json", document)) == list(hosts.values())
    assert read(saved(tmp_path / "one.json", hosts["h1"])) == [hosts["h1"]]


def test_a_folder_has_those_of_its_files_that_end_in_json(tmp_path):
    saved(tmp_path / "b.json", snapshot("h1"))
    saved(tmp_path / "a.json", snapshot("h2"))
    (tmp_path / "README").write_text("not one")
    assert [one["host"] for one in read(tmp_path)] == ["h2", "h1"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "it is not JSON"),
        ("[7]", r"it holds no snapshot \(kvmops.snapshot/1\) but int"),
        ('{"schema": "kvmops.plan/1"}', "but kvmops.plan/1; save the snapshots of host_info"),
        ('{"schema": "kvmops.snapshot/1", "host": "h1"}', "it holds no snapshot"),
    ],
)
def test_what_is_no_snapshot_is_told_with_its_file(tmp_path, content, words):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(SavedError, match=words) as refused:
        read(path)
    assert str(refused.value).startswith(f"{path}: ")


def test_nothing_there_is_told(tmp_path):
    with pytest.raises(SavedError, match="it cannot be read: No such file"):
        read(tmp_path / "missing")
    with pytest.raises(SavedError, match=r"no file in this folder ends in .json"):
        read(tmp_path)

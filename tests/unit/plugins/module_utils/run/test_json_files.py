# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import threading

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import (
    make_directory,
    read_json,
    remove_durably,
    write_durably,
)


def test_a_document_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = str(tmp_path / "x.json")
    write_durably(path, {"n": 1})
    monkeypatch.setattr(json, "dump", lambda _document, file, **_how: file.write('{"n": ') and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_durably(path, {"n": 2})
    assert read_json(path) == {"n": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["x.json"]


def test_two_that_write_at_once_leave_one_of_both(tmp_path):
    path = str(tmp_path / "x.json")
    documents = [[letter * 500] * 200 for letter in "abcd"]

    def write(document):
        for _turn in range(20):
            write_durably(path, document)
            assert read_json(path) in documents

    faults = []
    threads = [threading.Thread(target=guarded, args=(write, document, faults)) for document in documents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == []
    assert read_json(path) in documents


def guarded(work, document, faults):
    try:
        work(document)
    except BaseException as error:  # noqa: BLE001
        faults.append(error)


def test_a_directory_lasts_with_all_above_it(tmp_path, synced):
    make_directory(str(tmp_path / "a/b/c"))
    assert synced == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a/b")]
    assert (tmp_path / "a/b/c").stat().st_mode & 0o777 == 0o700
    make_directory(str(tmp_path / "a/b/c"))
    assert len(synced) == 3


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_directory_that_cannot_be_made_is_an_error(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        make_directory(str(tmp_path / name / "x"))


def test_what_is_removed_stays_removed(tmp_path, synced):
    path = tmp_path / "x.json"
    path.write_text("{}")
    remove_durably(str(path))
    assert not path.exists()
    assert synced == [str(tmp_path)]
    remove_durably(str(path))


def test_a_file_for_people_has_lines_and_may_be_read_by_all(tmp_path):
    path = tmp_path / "x.json"
    write_durably(str(path), {"n": 1}, indent=2, mode=0o644)

    assert path.read_text() == '{\n  "n": 1\n}\n'
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("content", [None, "", "{"])
def test_a_document_that_is_missing_or_cut_short_is_none(tmp_path, content):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    assert read_json(str(path)) is None

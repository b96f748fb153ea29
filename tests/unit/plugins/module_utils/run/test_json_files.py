# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import read_json, write_durably


def test_a_document_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = str(tmp_path / "x.json")
    write_durably(path, {"n": 1})
    monkeypatch.setattr(json, "dump", lambda _document, file, **_how: file.write('{"n": ') and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_durably(path, {"n": 2})
    assert read_json(path) == {"n": 1}


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

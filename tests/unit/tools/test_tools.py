# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from tools import ansible_test_home, count, interpreters

SUITE = '<testsuites><testsuite name="pytest" tests="{}" failures="{}" errors="{}" skipped="{}"/></testsuites>'


@pytest.mark.parametrize(
    ("suites", "counted"),
    [
        pytest.param([], (0, 0, 0), id="nothing ran"),
        pytest.param([(3, 0, 0, 0)], (3, 0, 0), id="one file"),
        pytest.param([(5, 1, 0, 1), (2, 0, 1, 0)], (4, 2, 1), id="two files, an error is a failure"),
    ],
)
def test_counts_of_all_files_are_added_up(tmp_path, suites, counted):
    for number, suite in enumerate(suites):
        (tmp_path / f"{number}.xml").write_text(SUITE.format(*suite), encoding="utf-8")

    assert count.count(tmp_path) == counted


def test_a_file_cut_off_counts_as_a_failure(tmp_path):
    (tmp_path / "units.xml").write_text("<testsuites><testsuite tests=", encoding="utf-8")

    assert count.count(tmp_path) == (0, 1, 0)


@pytest.mark.parametrize(("suite", "status"), [((2, 0, 0, 0), 0), ((2, 1, 0, 0), 1), ((1, 0, 0, 1), 1)])
def test_the_line_and_the_exit_status(tmp_path, monkeypatch, capsys, suite, status):
    (tmp_path / "units.xml").write_text(SUITE.format(*suite), encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["count.py", str(tmp_path)])

    assert count.main() == status
    assert capsys.readouterr().out.endswith(" skipped\n")


def command(folder: Path, name: str, says: str, status: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    script = folder / name
    script.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n", encoding="utf-8")
    script.chmod(0o755)


def test_a_shim_that_does_not_answer_is_no_interpreter(tmp_path, monkeypatch):
    command(tmp_path / "shims", "python3.9", "command not found", status=127)
    command(tmp_path / "real", "python3.9", f"3.9 {tmp_path}/real/python3.9")
    monkeypatch.setenv("PATH", f"{tmp_path}/shims:{tmp_path}/real:/usr/bin:/bin")
    monkeypatch.setattr(interpreters, "MANAGED", ())

    assert interpreters.find("3.9") == f"{tmp_path}/real/python3.9"


def test_an_interpreter_of_another_version_is_not_taken(tmp_path, monkeypatch):
    command(tmp_path / "odd", "python3.9", "3.12 /usr/bin/python3.12")
    monkeypatch.setenv("PATH", f"{tmp_path}/odd:/usr/bin:/bin")
    monkeypatch.setattr(interpreters, "MANAGED", ())

    assert not interpreters.find("3.9")


def test_this_ansible_test_says_which_pip_it_wants():
    versions = ansible_test_home.wanted_pips()

    assert all(version[0].isdigit() for version in versions)

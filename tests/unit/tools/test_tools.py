# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

from tools import ansible_test_home, interpreters


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

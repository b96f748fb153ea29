# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import zipfile

from ansible_collections.kvmops.cluster.plugins.modules import metrics_program


def test_the_program_is_put_there_once(run_module, cluster, tmp_path):
    path = tmp_path / "observe.pyz"
    checked = run_module(metrics_program, check=True, path=str(path))
    assert (checked["changed"], path.exists()) == (True, False)
    first = run_module(metrics_program, path=str(path))
    second = run_module(metrics_program, path=str(path))
    assert (first["changed"], second["changed"]) == (True, False)
    assert first["interpreter"].startswith("/")
    assert path.stat().st_mode & 0o777 == 0o644
    assert not [name for name in zipfile.ZipFile(path).namelist() if name.startswith("ansible/")]


def test_another_version_is_replaced(run_module, cluster, tmp_path):
    path = tmp_path / "observe.pyz"
    path.write_bytes(b"older")
    assert run_module(metrics_program, path=str(path))["changed"] is True
    assert zipfile.is_zipfile(path)


def test_without_its_folder_it_is_refused(run_module, cluster):
    result = run_module(metrics_program, path="/nowhere/observe.pyz")
    assert result["failed"]
    assert result["msg"].startswith("there is no folder /nowhere: make it")


def test_a_check_needs_no_folder(run_module, cluster):
    assert run_module(metrics_program, check=True, path="/nowhere/observe.pyz")["changed"] is True

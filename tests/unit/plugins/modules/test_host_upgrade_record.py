# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

from ansible_collections.kvmops.cluster.plugins.modules import host_upgrade_record

STOPPED = [{"name": "gpu1", "uuid": "u2"}]


def test_a_record_is_kept_and_read(run_module, tmp_path):
    state_dir = tmp_path / "state"

    def ask(**arguments):
        return run_module(host_upgrade_record, state_dir=str(state_dir), **arguments)

    first = ask()
    assert (first["changed"], first["record"]["run"], first["record"]["phase"]) == (False, None, "over")
    assert ask(run="r1", phase="begun", stopped=STOPPED, check=True)["changed"]
    assert not state_dir.exists()
    written = ask(run="r1", phase="begun", stopped=STOPPED, diff=True)
    assert written["changed"]
    assert written["diff"]["after"] == written["record"] == json.loads((state_dir / "upgrade.json").read_text())
    assert not ask(run="r1", phase="begun")["changed"]
    assert ask()["record"]["stopped"] == STOPPED


def test_a_record_that_cannot_be_read_is_no_empty_one(run_module, tmp_path):
    (tmp_path / "upgrade.json").write_text('{"schema": "kvmops.upgrade/1", "pha')
    result = run_module(host_upgrade_record, state_dir=str(tmp_path), run="r1", phase="waiting")
    assert result["refusal"]["code"] == "upgrade_record_damaged"
    assert "find guests of this host that are shut off and should run" in result["msg"]
    assert (tmp_path / "upgrade.json").read_text().endswith('"pha')


def test_a_record_that_cannot_be_written_is_told(run_module, tmp_path):
    (tmp_path / "file").write_text("")
    result = run_module(host_upgrade_record, state_dir=str(tmp_path / "file"), run="r1", phase="waiting")
    assert result["refusal"]["code"] in ("upgrade_record_not_written", "upgrade_record_damaged")

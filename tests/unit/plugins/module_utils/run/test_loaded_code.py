# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile

from ansible_collections.kvmops.cluster.plugins.module_utils.run import loaded_code
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.observe import observe_program


def test_equal_code_is_an_equal_file():
    first, second = (loaded_code.program(observe_program.__name__, loaded_code.COLLECTION) for _time in range(2))

    assert first == second
    assert observe_program.__name__.replace(".", "/") + ".py" in zipfile.ZipFile(io.BytesIO(first)).namelist()


def test_the_file_runs_on_its_own(tmp_path):
    """A host has neither the collection nor Ansible."""
    program, settings = tmp_path / "observe.pyz", tmp_path / "observe.json"
    program.write_bytes(loaded_code.program(observe_program.__name__, loaded_code.COLLECTION))
    settings.write_text(json.dumps({"name": "h1"}))
    ran = subprocess.run(
        [sys.executable, "-I", "-S", str(program), str(settings)], capture_output=True, text=True, check=False, cwd="/"
    )

    assert ran.returncode == observe_program.BAD_SETTINGS, ran.stderr
    assert ran.stderr == (
        f"the settings in {settings} cannot be used: uri is missing; run the playbook kvmops.cluster.observe\n"
    )

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The execution environment of docs/examples has what the collection needs, and nothing more."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
FILE = ROOT / "docs/examples/execution-environment.yml"
DEFINITION = yaml.safe_load(FILE.read_text(encoding="utf-8"))
BUILDER = shutil.which("ansible-builder")
needs_builder = pytest.mark.skipif(BUILDER is None, reason="ansible-builder is not installed")


def words(file: str) -> list[str]:
    """The lines of a list of packages, without comments."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_it_asks_for_the_collection_and_leaves_the_rest_to_it():
    assert set(DEFINITION["dependencies"]) == {"ansible_core", "ansible_runner", "galaxy"}
    [collection] = DEFINITION["dependencies"]["galaxy"]["collections"]
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    assert collection["name"] == galaxy["repository"] + ".git"
    # Another collection would have to be there as well.
    assert galaxy["dependencies"] == {}


def test_its_ansible_is_one_that_the_collection_takes():
    wanted = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))["requires_ansible"]
    given = DEFINITION["dependencies"]["ansible_core"]["package_pip"]

    assert re.fullmatch(r">=(\d+\.\d+)\.0", wanted)[1] == given.removeprefix("ansible-core>=")


@needs_builder
def test_ansible_builder_accepts_it(tmp_path):
    command = [BUILDER, "create", "-f", str(FILE), "-c", str(tmp_path / "context")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    built = yaml.safe_load((tmp_path / "context/_build/requirements.yml").read_text(encoding="utf-8"))
    assert built == DEFINITION["dependencies"]["galaxy"]
    [recipe] = [path for path in (tmp_path / "context").iterdir() if path.name in ("Dockerfile", "Containerfile")]
    assert DEFINITION["images"]["base_image"]["name"] in recipe.read_text(encoding="utf-8")


@needs_builder
def test_ansible_builder_finds_what_the_collection_needs():
    done = subprocess.run(
        [BUILDER, "introspect", str(ROOT / "build/collections")], capture_output=True, text=True, check=True
    )

    found = yaml.safe_load(done.stdout.partition("---\n")[2])
    told = {kind: [line.partition("  # ")[0] for line in lines] for kind, lines in found.items()}
    assert told == {"python": words("meta/ee-requirements.txt"), "system": words("meta/ee-bindep.txt")}
    assert told["python"] == ["jmespath>=1.0"]

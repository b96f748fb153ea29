# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parts of the collection agree with each other."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").glob("*") if path.is_dir())
#: What the others share. No operator calls it.
INTERNAL = {"run"}


def names(folder: str) -> set[str]:
    return {path.stem for path in (ROOT / folder).glob("*.py") if not path.stem.startswith("_")}


def test_the_action_group_lists_every_module():
    runtime = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))

    assert names("plugins/modules") <= set(runtime["action_groups"]["all"])


def test_every_action_has_its_module():
    assert names("plugins/action") <= names("plugins/modules")


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_what_an_operator_needs(role):
    for file in ("README.md", "meta/argument_specs.yml", "meta/main.yml", "tasks/main.yml"):
        assert (ROOT / "roles" / role / file).is_file(), f"roles/{role}/{file} is missing"
    assert (ROOT / f"playbooks/{role}.yml").is_file() == (role not in INTERNAL), f"playbooks/{role}.yml"


@pytest.mark.parametrize("role", sorted(INTERNAL))
def test_an_internal_role_says_so_wherever_it_is_described(role):
    for file in ("README.md", "meta/argument_specs.yml", "meta/main.yml"):
        assert "Internal: " in (ROOT / "roles" / role / file).read_text(encoding="utf-8"), f"roles/{role}/{file}"


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_a_default_for_what_its_argument_spec_says(role):
    spec = yaml.safe_load((ROOT / "roles" / role / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    file = ROOT / "roles" / role / "defaults/main.yml"
    defaults = (yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None) or {}

    for name, option in spec["argument_specs"]["main"].get("options", {}).items():
        if "default" in option:
            assert defaults.get(name) == option["default"], name


def test_the_documentation_names_all_that_is_included():
    page = (ROOT / "docs/README.md").read_text(encoding="utf-8")

    for name in names("plugins/modules") | set(ROLES) - INTERNAL:
        assert f"`{name}`" in page, name

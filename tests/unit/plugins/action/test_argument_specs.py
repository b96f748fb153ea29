# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an action takes is what the documentation of its module says: a module that is no program has no other check."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import yaml

from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.controller_action import ControllerAction

PLUGINS = "ansible_collections.kvmops.cluster.plugins"
FOLDER = Path(__file__).parents[4] / "plugins/action"
ACTIONS = {
    path.stem: action
    for path in FOLDER.glob("*.py")
    if issubclass(action := importlib.import_module(f"{PLUGINS}.action.{path.stem}").ActionModule, ControllerAction)
}
FIELDS = ("type", "elements", "required", "choices", "default")


def test_there_are_such_actions():
    assert {"cluster_view", "migration_plan", "show_lines"} <= set(ACTIONS)


@pytest.mark.parametrize("name", sorted(ACTIONS))
def test_the_documentation_says_what_the_action_takes(name):
    documented = yaml.safe_load(importlib.import_module(f"{PLUGINS}.modules.{name}").DOCUMENTATION)["options"]

    said = {option: {key: one[key] for key in FIELDS if key in one} for option, one in documented.items()}

    assert said == ACTIONS[name].ARGUMENTS


@pytest.mark.parametrize("name", sorted(ACTIONS))
def test_its_module_is_documentation_only(name):
    module = importlib.import_module(f"{PLUGINS}.modules.{name}")

    assert not hasattr(module, "main")

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an operator can say to a role is told in its README, and reaches what it is for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROLES = Path(__file__).parents[3] / "roles"
MOVING = ("drain_host", "evacuate", "rebalance", "restore_host", "rolling_upgrade")
#: Tasks that find only a score, and those that read a plan, move nobody.
PLANNING = [
    (role, path)
    for role in MOVING
    for path in sorted((ROLES / role / "tasks").rglob("*.yml"))
    if "kvmops.cluster.migration_plan:" in path.read_text(encoding="utf-8") and path.name != "score.yml"
]


def options(role):
    text = (ROLES / role / "meta/argument_specs.yml").read_text(encoding="utf-8")
    return set(yaml.safe_load(text)["argument_specs"]["main"]["options"])


@pytest.mark.parametrize("role", sorted(path.parents[1].name for path in ROLES.glob("*/defaults/main.yml")))
def test_each_option_is_told_and_used(role):
    readme = (ROLES / role / "README.md").read_text(encoding="utf-8")
    defaults = yaml.safe_load((ROLES / role / "defaults/main.yml").read_text(encoding="utf-8"))
    files = [*(ROLES / role / "tasks").rglob("*.yml"), *(ROLES / role / "vars").glob("*.yml")]
    used = set(re.findall(r"\w+", " ".join(file.read_text(encoding="utf-8") for file in files)))

    said = options(role)

    assert said == set(defaults)
    # Each *_role stands beside its *_tasks, and its name is put together from that of the hook.
    named = {name for name in said if not name.endswith("_role")}
    assert {name for name in named if f"`{name}`" not in readme} == set()
    assert named - used == set()


@pytest.mark.parametrize("role", MOVING)
def test_each_role_that_moves_guests_can_be_told_the_limits(role):
    limits = ("reserve_mib", "vcpu_ratio", "window", "incoming_limit", "link_limit", "spare")

    assert {f"{role}_{name}" for name in limits} - options(role) == set()


@pytest.mark.parametrize("role", MOVING)
def test_hooks_of_guests_run_only_where_the_operator_permits_them(role):
    defaults = yaml.safe_load((ROLES / role / "defaults/main.yml").read_text(encoding="utf-8"))
    tasks = [path.read_text(encoding="utf-8") for path in (ROLES / role / "tasks").rglob("*.yml")]
    given = [re.findall(rf"(\w+)_hooks: .*\b{role}_hooks\b", text) for text in tasks]
    permitted = [re.findall(rf"(\w+)_guest_hooks: .*\b{role}_guest_hooks\b", text) for text in tasks]

    assert defaults[f"{role}_guest_hooks"] is False
    assert any(given)
    assert permitted == given
    assert 'guest_hooks: "{{ __run_guest_hooks }}"' in (ROLES / "run/tasks/move.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(("role", "path"), PLANNING, ids=lambda value: getattr(value, "name", value))
def test_each_plan_keeps_to_all_of_them(role, path):
    calls = [
        task["kvmops.cluster.migration_plan"]
        for task in yaml.safe_load(path.read_text(encoding="utf-8"))
        if "kvmops.cluster.migration_plan" in task
    ]

    for call in calls:
        assert {"reserve_mib", "vcpu_ratio", "spare", "slots"} <= set(call), call
        assert set(call["slots"]) == {"source", "destination", "link"}

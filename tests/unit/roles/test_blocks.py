# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the roles undo after a failure is undone on all hosts.

A task with ``run_once`` that fails, standing itself in a block, leaves all hosts but the first out of the block's
rescue and always (ansible-core 2.19, strategy linear: the others are marked as failed twice, once for the block and
once for its rescue). In a file or a block of its own within that block, it leaves out none.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "roles").glob("*/tasks/**/*.yml"))


def tasks_in(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def looked_up(path, file):
    """A file that a task names: beside its own, or below the role's tasks, as Ansible looks."""
    tasks = next((folder for folder in path.parents if folder.name == "tasks"), path.parent)
    return next(found for found in (path.parent / file, tasks / file) if found.exists())


def brought_in(task, path):
    """The tasks of the file that this one imports or includes, or of its block; None if it is a task that acts."""
    for how in ("import_role", "include_role"):
        role = task.get(f"ansible.builtin.{how}")
        if role and "{{" not in role["name"]:
            file = ROOT / "roles" / role["name"].rpartition(".")[2] / f"tasks/{role.get('tasks_from', 'main')}.yml"
            return tasks_in(file), file
    for how in ("import_tasks", "include_tasks"):
        file = task.get(f"ansible.builtin.{how}")
        if file and "{{" not in file:
            found = looked_up(path, file)
            return tasks_in(found), found
    return (task["block"], path) if "block" in task else None


def done_once(task, path):
    """Whether one host does all of it for the others."""
    inner = brought_in(task, path)
    return all(done_once(one, inner[1]) for one in inner[0]) if inner else bool(task.get("run_once"))


def blocks(tasks):
    for task in tasks:
        if "block" in task:
            yield task
            for part in ("block", "rescue", "always"):
                yield from blocks(task.get(part, []))


def lonely(path):
    """Names of the tasks after whose failure only one host would do what must be done on each."""
    return [
        task["name"]
        for block in blocks(tasks_in(path))
        for task in block["block"]
        if task.get("run_once") and "block" not in task and brought_in(task, path) is None
        if not all(done_once(after, path) for part in ("rescue", "always") for after in block.get(part, []))
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "roles")))
def test_no_task_of_one_host_keeps_the_others_from_what_comes_after_a_failure(path):
    assert lonely(path) == []


def test_such_a_task_is_found(tmp_path):
    file = tmp_path / "main.yml"
    once = {"name": "once", "run_once": True, "ansible.builtin.assert": {"that": False}}
    here = {"name": "here", "ansible.builtin.debug": {}}
    for rescue, found in (([here], ["once"]), ([once], []), ([once, here], ["once"])):
        file.write_text(yaml.safe_dump([{"block": [once, {"block": [once]}], "rescue": rescue}]), encoding="utf-8")
        assert lonely(file) == found

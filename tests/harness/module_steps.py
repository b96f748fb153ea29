# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps by the collection's modules, one after the other, in one run of Ansible."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lab import LabError

from .ansible import Outcome, Running
from .operator import Operator


@dataclass(frozen=True)
class Step:
    """One task.

    Attributes:
        name: under which later steps find its result, and under which it is returned.
        host: on which it runs.
        module: a module of the collection.
        arguments: its options; templates may name the results of earlier steps.
        may_fail: whether the next step is done even if this one fails.
    """

    name: str
    host: str
    module: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    may_fail: bool = False


def playbook(steps: Sequence[Step], results: Path) -> str:
    """Return a playbook that runs the steps and writes their results into a file."""
    tasks: list[dict[str, Any]] = [
        {
            "name": step.name,
            f"kvmops.cluster.{step.module}": dict(step.arguments),
            "delegate_to": step.host,
            "register": step.name,
            "ignore_errors": step.may_fail,
        }
        for step in steps
    ]
    names = {step.name: f"{{{{ {step.name} | default(none) }}}}" for step in steps}
    tell = {
        "name": "tell the results",
        "ansible.builtin.copy": {"content": "{{ told | to_json }}", "dest": str(results), "mode": "0600"},
        "vars": {"told": names},
        "delegate_to": "localhost",
    }
    play = {
        "hosts": "hypervisors",
        "gather_facts": False,
        "run_once": True,
        "tasks": [{"block": tasks, "always": [tell], "run_once": True}],
    }
    return yaml.safe_dump([play], sort_keys=False, width=1000)


class Steps:
    """Steps that are at work."""

    def __init__(self, operator: Operator, name: str, steps: Sequence[Step]) -> None:
        self._operator = operator
        self._name = name
        self._results = operator.folder / f"{name}.json"
        self._results.unlink(missing_ok=True)
        self.running: Running = operator.start_file(operator.write(f"{name}.yml", playbook(steps, self._results)))

    def finish(self, patience: float = 3600.0) -> tuple[Outcome, dict[str, dict[str, Any]]]:
        """Wait for their end; return how that came, and the result of each step that was run."""
        outcome = self.running.finish(patience)
        self._operator.write(f"{self._name}.log", outcome.text)
        if not self._results.exists():
            return outcome, {}
        told: dict[str, dict[str, Any] | None] = json.loads(self._results.read_text(encoding="utf-8"))
        return outcome, {name: result for name, result in told.items() if result}


def run(operator: Operator, name: str, steps: Sequence[Step]) -> dict[str, dict[str, Any]]:
    """Run steps to their end and return the result of each.

    Raises:
        LabError: one failed; the rest was not run.
    """
    outcome, results = Steps(operator, name, steps).finish()
    if outcome.status or not results:
        last = [line for line in outcome.text.splitlines() if '"msg"' in line or "fatal:" in line][-1:]
        raise LabError(f"{name}: failed: {' '.join(last)[:600]}", f"See {operator.folder / name}.log.")
    return results

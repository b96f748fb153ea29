# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stands in for plan_apply in check mode: all moves would be made as the plan has them."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import plan as plans
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.reader import read_plan
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import step_result


def main() -> None:
    """Return a result for each step of this host."""
    arguments = {
        "name": {}, "plan": {"type": "dict"}, "owner": {}, "fence": {"type": "int"}, "window": {"type": "int"},
        "reserve_mib": {"type": "int"}, "tune_network": {"type": "bool"}, "free_memory": {}, "hooks": {"type": "list"},
        "guest_hooks": {"type": "bool"}, "uri": {}, "state_dir": {}, "progress_path": {},
    }  # fmt: skip
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)  # type: ignore[no-untyped-call]
    if not module.check_mode:
        module.fail_json(msg="nothing is moved here: run this with --check")
    plan = read_plan(module.params["plan"])
    results = [
        step_result(step, "would_move", strategy=step["strategy"], reason=step["reason"], forecast=step["forecast"])
        for step in plans.steps_of(plan, module.params["name"])
    ]
    module.exit_json(changed=True, results=results, run={"plan": plan["id"], "attached": False})


if __name__ == "__main__":
    main()

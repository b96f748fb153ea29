# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.mode_costs import MODES
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import plan as plans
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import sentence
from ansible_collections.kvmops.cluster.plugins.plugin_utils.planning import capsule_planner
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.controller_action import ControllerAction
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.plain_values import plain


class ActionModule(ControllerAction):
    """Chooses on the controller how each guest gets to the far end, out of documents only."""

    ARGUMENTS = {
        "guests": {"type": "raw"},
        "sources": {"type": "list", "elements": "str", "default": []},
        "destinations": {"type": "list", "elements": "str", "required": True},
        "snapshots": {"type": "raw", "required": True},
        "working_sets": {"type": "list", "elements": "dict", "default": []},
        "changes": {"type": "list", "elements": "dict", "default": []},
        "calibration": {"type": "dict", "default": {}},
        "capsules": {"type": "dict", "default": {}},
        "connect": {"type": "dict", "default": {}},
        "rate": {"type": "str"},
        "delay_ms": {"type": "float"},
        "fill_rate": {"type": "str"},
        "intent": {"type": "dict", "default": {}},
        "modes": {"type": "list", "elements": "str", "choices": list(MODES), "default": []},
        "carry_s": {"type": "float"},
        "reserve_mib": {"type": "int", "default": 256},
        "overheads": {"type": "dict", "default": {}},
    }

    def result(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """Choose; change nothing."""
        arguments = plain(arguments)
        try:
            planner = capsule_planner.Planner(arguments, datetime.datetime.now(datetime.UTC))
            choices = planner.choices()
        except (plans.PlanError, intents.IntentError) as error:
            return {"failed": True, "msg": sentence(error.refusal), "refusal": dict(error.refusal)}
        return {
            "changed": False,
            "choices": choices,
            "arrived": planner.arrived(),
            "there": planner.there(),
            "ahead": capsule_planner.ahead(choices),
            "seconds": capsule_planner.seconds(choices),
            "refusals": [{"guest": one["guest"], **one["refusal"]} for one in choices if one["refusal"]],
            "summary": capsule_planner.summary(choices),
        }

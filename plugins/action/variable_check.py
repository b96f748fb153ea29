# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

import yaml

from ansible_collections.kvmops.cluster.plugins.plugin_utils.play import variable_names as names
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.controller_action import ControllerAction

ROLES = Path(__file__).parents[2] / "roles"


class ActionModule(ControllerAction):
    """Refuses variables that begin like an option of a role and are none."""

    ARGUMENTS = {
        "roles": {"type": "list", "elements": "str", "required": True},
        "hosts": {"type": "list", "elements": "str", "default": []},
        "others": {"type": "list", "elements": "str", "default": []},
    }

    def result(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """Check the names of all variables of the play and of its hosts."""
        owners = [names.inventory_owner(), *(names.role_owner(role, _options(role)) for role in arguments["roles"])]
        said = _Said(variables, arguments["hosts"] or variables["ansible_play_hosts_all"])
        roles = {
            *(f"{names.COLLECTION}.{path.name}" for path in ROLES.iterdir()),
            *variables.get("ansible_role_names", []),
        }
        unknown = []
        for name in said.variables():
            owner = names.owner_of(name, owners, roles)
            if owner and name not in owner.options and not names.is_other(name, arguments["others"]):
                unknown.append(said.unknown(name, owner))
        return {"changed": False, **({"failed": True, "msg": names.message(unknown)} if unknown else {})}


class _Said:
    """What people have said in the inventory, in the play and on the command line.

    Results and facts are no such thing, whatever their names are.
    """

    def __init__(self, variables: t.Mapping[str, t.Any], hosts: t.Iterable[str]) -> None:
        hostvars = variables["hostvars"]
        manager = getattr(hostvars, "_variable_manager", None)
        self._extra: t.Mapping[str, t.Any] = getattr(manager, "extra_vars", {})
        facts = getattr(manager, "_nonpersistent_fact_cache", {})
        # Without the templates in them, which may need what is not known yet.
        raw = getattr(hostvars, "raw_get", hostvars.__getitem__)
        self._by_host = {host: _without(raw(host), facts.get(host, {}), self._extra) for host in hosts}
        here = facts.get(variables.get("inventory_hostname"), {})
        self._play = _without(variables, here, self._extra)

    def variables(self) -> list[str]:
        """All names, in order."""
        return sorted({*self._play, *(name for said in self._by_host.values() for name in said)})

    def unknown(self, name: str, owner: names.Owner) -> names.Unknown:
        """What is known about a variable that its owner does not know."""
        having = [host for host, said in self._by_host.items() if name in said]
        value = self._play[name] if name in self._play else self._by_host[having[0]][name]
        some = tuple(having) if having and len(having) < len(self._by_host) else ()
        return names.Unknown(name, owner, value, name in self._extra, some)


def _without(
    said: t.Mapping[str, t.Any], found_out: t.Mapping[str, t.Any], extra: t.Mapping[str, t.Any]
) -> dict[str, t.Any]:
    facts = said.get("ansible_facts") or {}
    return {
        name: value for name, value in said.items() if name in extra or (name not in found_out and name not in facts)
    }


def _options(role: str) -> t.Iterable[str]:
    """The options of a role or of a playbook without one."""
    if role in names.PLAYBOOK_OPTIONS:
        return names.PLAYBOOK_OPTIONS[role]
    text = (ROLES / role / "meta/argument_specs.yml").read_text(encoding="utf-8")
    points = yaml.safe_load(text)["argument_specs"].values()
    return {name for point in points for name in point.get("options") or {}}

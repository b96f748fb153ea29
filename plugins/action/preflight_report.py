# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed
from ansible_collections.kvmops.cluster.plugins.plugin_utils.checks import host_checks, rights
from ansible_collections.kvmops.cluster.plugins.plugin_utils.checks.host_checks import Finding
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play import registered_results
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.controller_action import ControllerAction
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.path_matrix import matrix_lines
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import clean


class ActionModule(ControllerAction):
    """Shows what stands in the way of moves between the hosts of a play, and fails if anything does."""

    ARGUMENTS = {
        "view": {"type": "dict", "required": True},
        "paths_from": {"type": "str", "required": True},
        "started_at": {"type": "str", "required": True},
        "sources": {"type": "list", "elements": "str", "default": []},
        "destinations": {"type": "list", "elements": "str", "default": []},
        "intent": {"type": "dict", "default": {}},
        "max_skew_s": {"type": "float", "default": 5.0},
        "tolerant": {"type": "bool", "default": False},
    }

    def result(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """Check the hosts, show the matrix of paths and every failure with its remedy."""
        view = arguments["view"]
        tried = registered_results.results_of(variables["hostvars"], view["snapshots"], arguments["paths_from"])
        paths = [path for result in tried.values() for path in result.get("paths") or []]
        findings = [
            *_absent(view["absent"], arguments),
            *_untried(tried),
            *_of_hosts(view, arguments, paths),
        ]
        if arguments["tolerant"]:
            findings = [Finding(host=found["host"], bad=False, refusal=found["refusal"]) for found in findings]
        checked = _checked(view["snapshots"], arguments)
        model = rights.model(checked, view["connect"])
        _show(paths, model, findings)
        bad = sum(finding["bad"] for finding in findings)
        broken = [path for path in paths if not path["ok"]]
        if (bad or broken) and not arguments["tolerant"]:
            # A failed task shows its whole result on the terminal, where all of it has just been told in words.
            return {"changed": False, "failed": True, "msg": _failure(len(broken), len(paths), bad)}
        return {"changed": False, "paths": paths, "rights": model, "findings": findings}


def _wanted(host: str, hosts: t.Sequence[str]) -> bool:
    return not hosts or host in hosts


def _absent(absent: t.Sequence[t.Mapping[str, str]], arguments: t.Mapping[str, t.Any]) -> list[Finding]:
    """Hosts that gave no answer at all."""
    sources, destinations = arguments["sources"], arguments["destinations"]
    return [
        {
            "host": host["host"],
            "bad": _wanted(host["host"], sources) or _wanted(host["host"], destinations),
            "refusal": refusal("no_answer", host["reason"], f"ansible -m ping {host['host']} must work first"),
        }
        for host in absent
    ]


def _untried(tried: t.Mapping[str, t.Mapping[str, t.Any]]) -> list[Finding]:
    """Sources from which no path could be tried."""
    return [
        {
            "host": host,
            "bad": True,
            "refusal": refusal("untried", registered_results.why(result), "repair that, then try again"),
        }
        for host, result in tried.items()
        if "paths" not in result
    ]


def _of_hosts(
    view: t.Mapping[str, t.Any], arguments: t.Mapping[str, t.Any], paths: t.Sequence[t.Mapping[str, t.Any]]
) -> list[Finding]:
    """What the snapshots of sources and destinations say."""
    try:
        intent = intents.normalise(arguments["intent"])
    except intents.IntentError as error:
        raise AnsibleActionFail(str(error)) from error
    snapshots = view["snapshots"]
    sources = {host: snap for host, snap in snapshots.items() if _wanted(host, arguments["sources"])}
    destinations = {host: snap for host, snap in snapshots.items() if _wanted(host, arguments["destinations"])}
    found: list[Finding] = []
    for host in sorted({**sources, **destinations}):
        found.extend(host_checks.check_host(snapshots[host], intent))
        found.extend(host_checks.check_capsules(snapshots[host]))
        found.extend(host_checks.check_disk_locks(snapshots[host]))
    for host in sorted(sources):
        found.extend(host_checks.check_send_buffer(snapshots[host], view["connect"].get(host) or {}))
    started_at, most_s = arguments["started_at"], arguments["max_skew_s"]
    found.extend(host_checks.check_clocks({**sources, **destinations}, started_at, view["at"], most_s))
    found.extend(host_checks.check_storage(sources, destinations))
    found.extend(host_checks.check_left_definitions(sorted({**sources, **destinations}), snapshots))
    found.extend(host_checks.check_requirements(sources, destinations))
    found.extend(rights.check_rights({**sources, **destinations}, view["connect"]))
    return found


def _checked(snapshots: t.Mapping[str, t.Any], arguments: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The snapshots of the sources and the destinations."""
    ends = (arguments["sources"], arguments["destinations"])
    return {host: one for host, one in snapshots.items() if any(_wanted(host, end) for end in ends)}


def _show(paths: t.Sequence[t.Mapping[str, t.Any]], model: str, findings: t.Sequence[Finding]) -> None:
    display = Display()
    for line in matrix_lines(paths):
        display.display(visible(line))
    display.display(f"\n{clean(model)}")
    for bad in (True, False):
        for (reason, remedy), hosts in _told_once(finding for finding in findings if finding["bad"] is bad):
            mark, colour = ("", "red") if bad else ("note: ", "bright purple")
            display.display(f"\n{clean(listed(hosts))}: {mark}{clean(reason)}", color=colour)
            if remedy:
                display.display(f"  -> {clean(remedy)}")


def _told_once(findings: t.Iterable[Finding]) -> list[tuple[tuple[str, str], list[str]]]:
    """What was found, with all hosts that have it."""
    told: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        told.setdefault((finding["refusal"]["reason"], finding["refusal"]["remedy"]), []).append(finding["host"])
    return list(told.items())


def _failure(broken: int, tried: int, bad: int) -> str:
    what = [f"{broken} of {tried} paths do not work"] if broken else []
    what += [f"{bad} {'fault was' if bad == 1 else 'faults were'} found on hosts"] if bad else []
    return f"Guests cannot be moved everywhere yet: {' and '.join(what)}. The list above says what to do about each."

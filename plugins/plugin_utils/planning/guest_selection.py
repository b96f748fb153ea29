# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: find the guests that an operator names, by name, UUID or JMESPath expression.

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleError

try:
    import jmespath
    import jmespath.exceptions
except ImportError:  # pragma: no cover
    jmespath = None

#: Without the library, a name with one of these may be an expression.
_MARKS = frozenset("[]{}()?|&*@'\"`")

Snapshots = t.Mapping[str, t.Mapping[str, t.Any]]


def select(
    selection: str | t.Sequence[t.Any] | None, snapshots: Snapshots, *, option: str = "exclude"
) -> dict[str, str]:
    """The guests an operator means, as names by UUID.

    Args:
        selection: a JMESPath expression over one snapshot that gives domains or names of domains, for example
            C(domains[?metadata.tier=='pinned']), or the name of one guest if no snapshot has anything for the
            expression. Or a list of names and UUIDs, which is never evaluated. Empty means no guest.
        snapshots: the hosts to look at.
        option: what the operator calls this, for error texts.

    Raises:
        AnsibleError: the expression is bad, or a name is nobody's.
    """
    if not selection:
        return {}
    chosen = _evaluated(selection, snapshots, option) if isinstance(selection, str) else list(selection)
    return _by_uuid(chosen, snapshots, option)


def _evaluated(expression: str, snapshots: Snapshots, option: str) -> list[t.Any]:
    # A guest may be called like an expression. What an operator has always written must not change its meaning then.
    is_name = any(expression == domain["name"] for domain in _domains(snapshots))
    if jmespath is None and is_name and not _MARKS & set(expression):
        return [expression]
    if jmespath is None:
        raise AnsibleError(
            f"{option}: an expression needs the Python library jmespath on the controller: "
            "pip install jmespath (in the environment that runs ansible-playbook), or give a list of guest names"
        )
    try:
        compiled = jmespath.compile(expression)
        results = [compiled.search(snapshot) for _host, snapshot in sorted(snapshots.items())]
    except jmespath.exceptions.JMESPathError as exc:
        if is_name:
            return [expression]
        raise AnsibleError(
            f"{option}: {expression!r} is not a JMESPath expression that works on a snapshot: {_one_line(exc)}"
        ) from exc
    if all(result is None for result in results):
        if is_name:
            return [expression]
        raise AnsibleError(
            f"{option}: {expression!r} is neither the name of a guest nor an expression that finds anything in a "
            "snapshot; expressions look like domains[?metadata.tier=='pinned']"
        )
    return [item for result in results for item in _flat(result)]


def _by_uuid(chosen: t.Sequence[t.Any], snapshots: Snapshots, option: str) -> dict[str, str]:
    names: dict[str, list[t.Mapping[str, t.Any]]] = {}
    uuids: dict[str, list[t.Mapping[str, t.Any]]] = {}
    for domain in _domains(snapshots):
        names.setdefault(domain["name"], []).append(domain)
        uuids.setdefault(domain["uuid"], []).append(domain)
    # A guest may be called like the UUID of another one.
    names.update(uuids)
    found: dict[str, str] = {}
    for item in chosen:
        key = item.get("uuid") or item.get("name") if isinstance(item, t.Mapping) else item
        if not isinstance(key, str):
            raise AnsibleError(
                f"{option}: the selection gives {item!r}, which is neither a domain nor the name of one; "
                "expressions look like domains[?metadata.tier=='pinned']"
            )
        if key not in names:
            raise AnsibleError(f"{option}: there is no guest called {key!r} on {', '.join(sorted(snapshots))}")
        found.update({domain["uuid"]: domain["name"] for domain in names[key]})
    return found


def _domains(snapshots: Snapshots) -> list[t.Mapping[str, t.Any]]:
    return [domain for snapshot in snapshots.values() for domain in snapshot.get("domains") or []]


def _flat(result: t.Any) -> list[t.Any]:
    if result is None:
        return []
    if isinstance(result, list):
        return [inner for item in result for inner in _flat(item)]
    return [result]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())

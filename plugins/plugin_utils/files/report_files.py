# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the files of reports on the controller: how they are written, and which are removed.

from __future__ import annotations

import contextlib
import dataclasses
import re
import stat
import typing as t
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.utils.display import Display

from ansible_collections.kvmops.cluster.plugins.module_utils.core import document_shapes, json_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import REPORT
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.home_claims import claims
from ansible_collections.kvmops.cluster.plugins.plugin_utils.files import atomic_write

#: Reports name guests, so others may not read them unless the operator says so.
PRIVATE = 0o600
#: So many reports are kept, and each for so many days. 0 is no limit.
KEEP = 500
KEEP_DAYS = 365
#: One run looks at so many old reports at most, so that the first one with a limit does not take for ever.
MOST_AT_ONCE = 100
DAY_S = 86400
#: A file of a report or a plan, by its name. Whatever else is in the folder is not ours.
_OURS = re.compile(
    r"(?P<plan>(?:drain|evacuate|rebalance|restore|upgrade)-[A-Za-z0-9._-]+-\d{8}T\d{6}Z-[0-9a-f]{4})(?:\.plan)?"
    r"\.(?P<kind>json|html|md|xml|csv)"
)


@dataclasses.dataclass(frozen=True)
class Limits:
    """How long reports are kept.

    Attributes:
        keep: so many runs.
        days: each for so many days.
    """

    keep: int = KEEP
    days: float = KEEP_DAYS


def mode_of(stated: t.Any) -> int:
    """The permissions that an operator states, as in other modules of Ansible.

    >>> mode_of("0640") == mode_of(0o640) == 0o640
    True

    Raises:
        AnsibleError: it is no such thing, or the file would be one that its owner cannot read again.
    """
    found = None
    if isinstance(stated, int) and not isinstance(stated, bool):
        found = stated
    elif isinstance(stated, str) and re.fullmatch(r"0?[0-7]{3}", stated):
        found = int(stated, 8)
    if found is None or found & ~0o666 or found & PRIVATE != PRIVATE:
        raise AnsibleError(f"{stated!r} is no mode for a report: give one such as '0600' or '0640', in quotes.")
    return found


def write(path: Path, text: str, mode: int) -> None:
    """Write a file of a report whole or not at all.

    Raises:
        AnsibleError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write.replace(path, text, mode)
    except OSError as error:
        raise AnsibleError(
            f"The report {path} cannot be written: {error.strerror}. Give another directory, or make room there."
        ) from None


def read_reports(where: Path) -> list[dict[str, t.Any]]:
    """All reports in a directory, or in one file; what cannot be read as one is left out, with a warning."""
    found = []
    for path in [where] if where.is_file() else sorted(where.glob("*.json")):
        try:
            report = json_text.parsed(path.read_bytes())
            if not isinstance(report, dict) or report.get("schema") != REPORT:
                continue
            document_shapes.REPORT(report, "")
        except (OSError, ValueError) as error:
            Display().warning(visible(f"{path} is left out: it cannot be read as a report ({error})"))
        else:
            found.append(report)
    return found


def remove_old(directory: Path, limits: Limits, now_s: float) -> list[str]:
    """Remove files of reports that are too old or too many; returns their names.

    A report that says where guests are to come home to stays, whatever its age: a later return home reads it.

    Args:
        directory: with the reports.
        limits: how long they are kept.
        now_s: seconds since 1970.
    """
    old = _too_old(directory, limits, now_s)
    if not old:
        return []
    needed = _needed([plan for plan, files in old.items() if any(file.suffix == ".json" for file in files)], directory)
    removed = []
    for plan, files in old.items():
        for file in files:
            if plan in needed and file.suffix == ".json":
                continue
            with contextlib.suppress(OSError):
                file.unlink()
                removed.append(file.name)
    return removed


def _too_old(directory: Path, limits: Limits, now_s: float) -> dict[str, list[Path]]:
    """Files by the plan's id, of plans that are too old or too many, the oldest plan first."""
    plans: dict[str, list[Path]] = {}
    times: dict[str, float] = {}
    for file in directory.iterdir():
        named = _OURS.fullmatch(file.name)
        facts = file.lstat()
        if named and stat.S_ISREG(facts.st_mode):
            plans.setdefault(named["plan"], []).append(file)
            times[named["plan"]] = max(facts.st_mtime, times.get(named["plan"], 0.0))
    newest_first = sorted(plans, key=lambda plan: times[plan], reverse=True)
    kept = set(newest_first[: limits.keep] if limits.keep > 0 else newest_first)
    if limits.days > 0:
        kept = {plan for plan in kept if now_s - times[plan] <= limits.days * DAY_S}
    old = [plan for plan in reversed(newest_first) if plan not in kept]
    return {plan: plans[plan] for plan in old[:MOST_AT_ONCE]}


def _needed(plans: t.Sequence[str], directory: Path) -> set[str]:
    """Of these plans, those without whose report a host would not get a guest back."""
    reports = read_reports(directory)
    wanted = claims(reports)
    needed = set()
    for plan in plans:
        others = [report for report in reports if report.get("plan") != plan]
        if claims(others) == wanted:
            reports = others
        else:
            needed.add(plan)
    return needed

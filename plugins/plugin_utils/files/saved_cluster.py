# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: a file with all that a plan is made from, so that the plan can be made elsewhere.

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core import document_shapes, json_text, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import PlanError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import snapshot_shape

CLUSTER = "kvmops.cluster/1"
#: What a plan is made from; everything else is what is asked for.
PARTS: dict[str, tuple[type, ...]] = {
    "snapshots": (dict, list),
    "paths": (list,),
    "connect": (dict,),
    "working_sets": (list, type(None)),
    "calibration": (dict, type(None)),
}
#: Where files are is nobody else's business.
OWN = ("cluster", "cluster_dest", "dest")

_SHAPE = shape.mapping(
    {
        "snapshots": shape.either(shape.mapping_of(snapshot_shape.SHAPE), shape.list_of(snapshot_shape.SHAPE)),
        "paths": shape.list_of(document_shapes.PATH),
        "connect": shape.mapping_of(shape.mapping({}, others=True)),
        "working_sets": shape.or_null(shape.list_of(document_shapes.WORKING_SET)),
        "calibration": shape.or_null(shape.mapping({}, others=True)),
    },
    others=True,
)

Arguments = t.Mapping[str, t.Any]


def document(arguments: Arguments, saved_at: str) -> dict[str, t.Any]:
    """The file's content: what the plan was made from, and in C(asked) what was asked for."""
    asked = {key: value for key, value in arguments.items() if key not in PARTS and key not in OWN}
    return {
        "schema": CLUSTER,
        "saved_at": saved_at,
        "asked": asked,
        **{part: arguments[part] for part in PARTS},
    }


def read(path: Path) -> dict[str, t.Any]:
    """What a plan is made from, out of a file.

    Raises:
        PlanError: there is no such file, or it is none.
    """
    try:
        found = json_text.parsed(path.read_bytes())
    except OSError as error:
        raise _refused(path, f"it cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _refused(path, f"it is not JSON ({error})") from error
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != CLUSTER:
        raise _refused(path, f"its schema is {schema or 'missing'}, not {CLUSTER}")
    for part, kinds in PARTS.items():
        if not isinstance(found.get(part), kinds):
            raise _refused(path, f"its {part} is missing or damaged")
    try:
        _SHAPE(found, "")
    except shape.ShapeError as error:
        raise _refused(path, f"it is damaged: {error}") from error
    return {part: found[part] for part in PARTS}


def _refused(path: Path, why: str) -> PlanError:
    return PlanError("not_a_cluster", f"cluster: {path}: {why}", "give a file that cluster_dest wrote, unedited")

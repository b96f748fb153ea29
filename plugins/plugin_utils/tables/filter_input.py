# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what a filter checks before it makes a table.

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

Document = t.Mapping[str, t.Any]


def document_of(value: t.Any, schema: str, name: str) -> Document:
    """Return the value if it is a document of this schema.

    Args:
        value: what the filter was given.
        schema: such as C(kvmops.plan/1).
        name: the filter's, for the message.

    Raises:
        AnsibleFilterError: it is something else.
    """
    if not isinstance(value, t.Mapping) or value.get("schema") != schema:
        raise AnsibleFilterError(f"{name} takes a document {schema}, not {_kind(value)}")
    return value


def documents_of(value: t.Any, schema: str, name: str) -> t.Sequence[Document]:
    """Return the value if it is a list of documents of this schema.

    Raises:
        AnsibleFilterError: it is no list, or one of its items is something else.
    """
    if isinstance(value, (str, t.Mapping)) or not isinstance(value, t.Sequence):
        raise AnsibleFilterError(f"{name} takes a list of documents {schema}, not {type(value).__name__}")
    for number, item in enumerate(value):
        found = item.get("schema") if isinstance(item, t.Mapping) else type(item).__name__
        if found != schema:
            raise AnsibleFilterError(f"{name}: item {number} is {found}, not a document {schema}")
    return value


def mapping_with(key: str, value: t.Any, what: str, name: str) -> Document:
    """Return the value if it is a mapping that has this key.

    Args:
        what: what the mapping should be, for the message, such as C(a view).

    Raises:
        AnsibleFilterError: it is something else.
    """
    if not isinstance(value, t.Mapping) or key not in value:
        raise AnsibleFilterError(f"{name} takes {what} with {key}, not {type(value).__name__}")
    return value


def _kind(value: t.Any) -> str:
    if isinstance(value, t.Mapping):
        return str(value.get("schema") or "a mapping without a schema")
    return type(value).__name__

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what the timer of the role observe starts on this host: it measures, and writes one file.

from __future__ import annotations

import sys
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import json_text, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import MOST_OF_ERROR, one_line
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import read_file
from ansible_collections.kvmops.cluster.plugins.module_utils.run.state_owner import give_to_owner
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.explanation import explained
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.observe.observing import Request, observe

#: Exit statuses.
DONE, FAILED, BAD_SETTINGS = 0, 1, 2

_TEXT = shape.text()
_AMOUNT = shape.or_null(shape.number(0))
SETTINGS = shape.mapping(
    {"uri": _TEXT, "name": _TEXT, "state_dir": _TEXT, "path": _TEXT},
    {
        "shared_devices": shape.list_of(_TEXT),
        "measure_s": shape.number(0),
        "allow_monitor": shape.truth,
        "look_at_memory": shape.truth,
        "bandwidth_mib_s": _AMOUNT,
        "window_s": _AMOUNT,
        "intent": shape.mapping({}, others=True),
    },
)


class SettingsError(Exception):
    """The file with the settings is none."""


def main(_folder: str) -> int:
    """Observe this host once, with the settings in the file that the command line names."""
    path = sys.argv[1] if len(sys.argv) > 1 else ""
    try:
        request = settings(path)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_SETTINGS
    try:
        observed = observe(request, write=True)
    except Exception as error:  # pylint: disable=broad-except
        why = explained(error)
        if why is None:
            raise
        sys.stderr.write(f"{sentence(why)}\n")
        return FAILED
    finally:
        give_to_owner(request.state_dir)
    for refused in observed.refusals:
        sys.stderr.write(f"{one_line(refused['reason'], MOST_OF_ERROR)}\n")
    sys.stdout.write(f"measured {len(observed.measured)} guests, wrote {request.path}\n")
    return DONE


def settings(path: str) -> Request:
    """What is to be observed.

    Raises:
        SettingsError: the file cannot be read, or is of another version.
    """
    try:
        document: t.Any = json_text.parsed(read_file(path))
        SETTINGS(document, "")
    except (OSError, json_text.JsonTextError, shape.ShapeError) as error:
        raise SettingsError(
            f"the settings in {path or '(no file)'} cannot be used: {error}; run the playbook kvmops.cluster.observe"
        ) from error
    return Request(**document)

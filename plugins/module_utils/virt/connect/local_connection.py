# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the connection to the libvirtd of the host that a module runs on.

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection import VirtError, connect
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import UnansweredError, within

#: A daemon that is started by a connection first asks every guest that it finds.
ANSWER_S = 20.0


@contextlib.contextmanager
def connected(uri: str, *, read_only: bool) -> t.Iterator[t.Any]:
    """As ``connect``, but a daemon that hangs is an error: libvirt itself would wait for ever on a local connection.

    Raises:
        VirtError: the daemon could not be reached, or does not answer.
    """
    try:
        within(ANSWER_S, lambda: _try(uri))
    except UnansweredError as error:
        raise VirtError(
            refusal(
                "no_answer",
                f"{uri} does not answer within {ANSWER_S:g} s",
                "see journalctl -u libvirtd -u virtqemud, and restart the daemon; guests keep running without it",
            )
        ) from error
    with connect(uri, read_only=read_only) as connection:
        yield connection


def _try(uri: str) -> None:
    with connect(uri, read_only=True) as connection:
        connection.getLibVersion()

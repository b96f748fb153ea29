# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Whether a guest did not move because of something that passes, such as a link that was cut for some seconds.

What will happen again, such as a guest that does not converge or a destination without room, is not tried again.
"""

from __future__ import annotations

import typing as t

#: Codes of refusals: a host did not answer, or its daemon was restarted.
_CODES = frozenset(("connection_lost", "no_daemon", "no_answer", "not_answering", "unreachable"))
#: What libvirt and QEMU say of a connection that ended in the middle, whichever of them noticed.
_TEXTS = (
    "broken pipe",
    "cannot recv data",
    "cannot write data",
    "client socket is closed",
    "connection reset by peer",
    "connection timed out",
    "end of file while reading data",
    "lost connection to destination host",
    "no response from client",
    "no route to host",
    "the connection to libvirt has broken off",
    "unable to read from socket",
    "unable to write to socket",
)


def is_passing(result: t.Mapping[str, t.Any]) -> bool:
    """Whether a step may do better if it is simply tried again.

    Args:
        result: of the step.

    >>> is_passing({"outcome": "failed", "error": "Unable to write to socket: Broken pipe", "refusals": []})
    True
    >>> is_passing({"outcome": "failed", "error": "given up: it does not converge", "refusals": []})
    False
    """
    if result["outcome"] == "refused":
        codes = {refused["code"] for refused in result["refusals"]}
        return bool(codes) and codes <= _CODES
    if result["outcome"] != "failed":
        return False
    error = str(result.get("error") or "").lower()
    return not error.startswith("given up") and any(text in error for text in _TEXTS)


def reason_of(result: t.Mapping[str, t.Any]) -> str:
    """Why a step did not move its guest, in words."""
    told = [refused["reason"] for refused in result["refusals"]] or [str(result.get("error") or "no reason was given")]
    return "; ".join(told)

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The remedies that were printed, as far as somebody can simply do them."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Commands that a remedy may name, each on a host: what a person would type after reading it. `resume` and `suspend`
#: are not among them, as they are only right after somebody has looked.
_COMMAND = re.compile(
    r"virsh (?P<verb>start|autostart(?: --disable)?|undefine(?: --[a-z-]+)*|snapshot-delete) "
    r"(?P<guest>[A-Za-z0-9_.@+-]+) on (?P<host>h\d+)"
)
#: A guest whose memory is lost: what is left of it is ended, and it is started anew on one host.
_LOST = re.compile(r"End what is left on (?P<host>h\d+) \(virsh destroy (?P<guest>[A-Za-z0-9_.@+-]+) there\)")
_RECOVER = "ansible-playbook kvmops.cluster.recover"
#: Not "let it run again", which is about the guest.
_AGAIN = re.compile(r"(?<!let it )\b[Rr]un\b[^.;:]{0,40}\bagain\b")
_FORCE = re.compile(r"\bforce=true\b")


@dataclass(frozen=True)
class Remedy:
    """One thing to do.

    Attributes:
        kind: C(command), C(lost) (end it, then start it), C(recover), C(force) or C(again).
        host, guest: where and for whom.
        command: for the host's shell.
    """

    kind: str
    host: str = ""
    guest: str = ""
    command: str = ""


def remedies(words: str) -> list[Remedy]:
    """Return what is to be done, in this order: commands on hosts, the playbook recover, the same playbook once more.

    >>> [one.kind for one in remedies("start it: virsh start web1 on h1 (see its log). Then run the drain again")]
    ['command', 'again']
    """
    found: dict[Remedy, None] = {}
    for match in _LOST.finditer(words):
        found[Remedy("lost", match["host"], match["guest"], f"virsh destroy {match['guest']}")] = None
    for match in _COMMAND.finditer(words):
        command = f"virsh {match['verb']} {match['guest']}"
        found[Remedy("command", match["host"], match["guest"], command)] = None
    if _RECOVER in words:
        found[Remedy("recover")] = None
    if _FORCE.search(words):
        found[Remedy("force")] = None
    if _AGAIN.search(words):
        found[Remedy("again")] = None
    return list(found)

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What nobody sends by accident, and what broken disks leave: for tests of everything that reads or shows."""

from __future__ import annotations

import copy
import json
import os
import socket
import typing as t
from pathlib import Path

#: Bytes that are no document, whatever is expected.
NO_DOCUMENTS = {
    "nothing": b"",
    "zeros": b"\0" * 64,
    "no text": b'{"schema": "\xff\xfe"}',
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep mappings": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "infinity": b'{"a": 1e999}',
    "no number": b'{"a": NaN}',
    "a long number": b'{"a": ' + b"9" * 5000 + b"}",
    "a key twice": b'{"schema": "x", "schema": "x"}',
    "a number": b"7",
    "a list": b"[]",
    "null": b"null",
    "a text": b'"x"',
}


def spoilt(document: t.Any) -> dict[str, bytes]:
    """A document with one thing in it that no reader takes: the text is right at first sight, and complete."""
    text = json.dumps(document)
    first = next(iter(document))
    head = "{" + f"{json.dumps(first)}: {json.dumps(document[first])}, "
    return {
        "a key twice": (head + text[1:]).encode(),
        "infinity": ('{"extra": 1e999, ' + text[1:]).encode(),
        "no number": ('{"extra": NaN, ' + text[1:]).encode(),
        "a long number": ('{"extra": ' + "9" * 5000 + ", " + text[1:]).encode(),
        "deep": ('{"extra": ' + "[" * 100_000 + "]" * 100_000 + ", " + text[1:]).encode(),
        "cut off": text[:-1].encode(),
        "no UTF-8": text[:-1].encode() + b', "extra": "\xff"}',
    }


def places(value: t.Any, place: tuple[t.Any, ...] = ()) -> t.Iterator[tuple[t.Any, ...]]:
    """Where the parts of a document are, each as the keys that lead there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in items:
        yield (*place, key)
        yield from places(one, (*place, key))


#: Of each kind one that fits almost nowhere.
OTHERS: tuple[t.Any, ...] = (None, True, -1, 10**19, 2.5, "", "x\n\x1b[2J", [], [[]], {}, {"": None})


def mutated(document: t.Any) -> t.Iterator[tuple[str, t.Any]]:
    """The document again and again, each time with one part of another kind, or without one."""
    for place in list(places(document)):
        for other in (*OTHERS, "gone"):
            changed = copy.deepcopy(document)
            parent = changed
            for key in place[:-1]:
                parent = parent[key]
            if other != "gone":
                parent[place[-1]] = copy.deepcopy(other)
            else:
                del parent[place[-1]]
            yield f"{'.'.join(map(str, place))} = {other!r}", changed


def _laughs() -> str:
    entities = "".join(f'<!ENTITY l{number} "{f"&l{number - 1};" * 10}">' for number in range(1, 10))
    return f'<!DOCTYPE domain [<!ENTITY l0 "lol">{entities}]><domain><name>&l9;</name></domain>'


#: Definitions of a guest that cannot be read.
NO_DEFINITIONS = {
    "nothing": "",
    "no XML": "<domain",
    "billion laughs": _laughs(),
    "a file of the host": '<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><domain><name>&x;</name></domain>',
    "an unknown entity": "<domain><name>&lol;</name></domain>",
    "deep": "<domain>" + "<a>" * 100_000 + "</a>" * 100_000 + "</domain>",
    "large": f"<domain><description>{'x' * (5 << 20)}</description></domain>",
    "half a character": "<domain><name>\ud800</name></domain>",
    "a character that XML has not": "<domain><name>\x1b[2J</name></domain>",
}


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        # The path of a socket is short, and that of a test is not.
        before = os.open(".", os.O_RDONLY)
        try:
            os.chdir(path.parent)
            listener.bind(path.name)
        finally:
            os.fchdir(before)
            os.close(before)


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "somebody's").write_text("work")


#: What may be in the place of a file that should be whole: each makes it.
IN_THE_PLACE_OF_A_FILE: dict[str, t.Callable[[Path], t.Any]] = {
    "garbage": lambda path: path.write_text("garbage"),
    "empty": lambda path: path.touch(),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 64),
    "large": lambda path: path.write_bytes(b"[" * (3 << 20)),
    "an empty folder": lambda path: path.mkdir(),
    "a folder": _folder,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a pipe": _fifo,
    "a socket": _socket,
}


#: Names of guests that mean something else to Ansible, ssh, a shell, JMESPath or a reader.
NAMES = (
    "all",
    "ungrouped",
    "localhost",
    "hypervisors",
    "guests_on_h1",
    "domains",
    "domains[?name=='gold']",
    "domains[].name",
    "-oProxyCommand=touch pwned",
    "{{ 7*7 }}",
    "{% raw %}",
    "a,b",
    "a:b",
    "!gold",
    "&gold",
    "~.*",
    "web*",
    "web[1:3]",
    "root@h1",
    "$(reboot)",
    "`reboot`",
    "; reboot",
    "new\nline",
    "../../etc/passwd",
    "\x1b[2J",
    "\u202egnp.exe",
)

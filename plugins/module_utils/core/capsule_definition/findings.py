# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What a guest's definition is rebuilt with, and what is found on the way: what may not come along, or is left out."""

from __future__ import annotations

import fnmatch
import posixpath
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal


class Layer(t.NamedTuple):
    """One file of a disk on this host, or where else it is read from.

    Attributes:
        path: of the file; C("") where C(source) says where it is.
        format: C(raw) or C(qcow2).
        source: the whole source element of a layer that is no file here, and the type of such a backing store
            (C(network)); None for a file.
        source_type: see above.
    """

    path: str
    format: str
    source: ET.Element | None = None
    source_type: str = "file"


class Place(t.NamedTuple):
    """Where the parts of a capsule are on the host that starts it, and what the operator permits.

    Attributes:
        host: its name, for messages.
        disks: the layers of each disk by its target, the one that the guest writes to first.
        nvram: the file with the guest's NVRAM; None where the capsule has none.
        networks: other names here for bridges, networks and network devices of the definition, by their names there.
        has_links: bridges and network devices of this host; None: not known, and not checked.
        has_networks: networks of its libvirtd; None: not known.
        cpus: numbers of its CPUs; None: not known, and pinning is kept.
        files: patterns of files of this host that a definition may name (a kernel, a console log); None: any.
        shares_files: whether another guest writes to the same files, as this one is a copy of it.
    """

    host: str
    disks: t.Mapping[str, tuple[Layer, ...]]
    nvram: str | None = None
    networks: t.Mapping[str, str] = {}
    has_links: frozenset[str] | None = None
    has_networks: frozenset[str] | None = None
    cpus: frozenset[int] | None = None
    files: tuple[str, ...] | None = ()
    shares_files: bool = False

    def permits(self, path: str) -> bool:
        """Whether a definition may name this file of the host.

        >>> Place("h1", {}, files=("/boot/guests/*",)).permits("/boot/guests/../../etc/shadow")
        False
        """
        if self.files is None:
            return True
        if not path.startswith("/") or posixpath.normpath(path) != path:
            return False
        return any(fnmatch.fnmatchcase(path, pattern) for pattern in self.files)


class Findings:
    """What is found while one definition is rebuilt.

    Args:
        guest: name of the guest, for messages.
        place: where it is to be started.

    Attributes:
        refusals: why it is not started as it is.
        notes: what was left out or changed, as sentences without a full stop.
        files: paths in the result that are ours, or permitted.
    """

    def __init__(self, guest: str, place: Place) -> None:
        self.guest = guest
        self.place = place
        self.refusals: list[Refusal] = []
        self.notes: list[str] = []
        self.files: set[str] = set()

    def refuse(self, what: str, remedy: str, code: str = "definition_not_permitted") -> None:
        """Something that the guest is not started with, in words that go on after C(the definition of NAME has)."""
        self.refusals.append(refusal(code, f"the definition of {self.guest} has {what}", remedy))

    def note(self, text: str) -> None:
        """Something that was left out or changed."""
        if text not in self.notes:
            self.notes.append(text)

    def file(self, path: str, what: str) -> bool:
        """Whether a file of the host may be named; it is refused otherwise, with what it is for."""
        if self.place.permits(path):
            self.files.add(path)
            return True
        self.refuse(
            f"the file {shown(path)} of its old host as its {what}",
            f"put the right file there on {self.place.host}, and permit it: allow_files: [{shown(path)}]"
            f" (kvmops_cluster_capsule_files of {self.place.host})",
            "file_not_permitted",
        )
        return False

    def kept(self, element: ET.Element) -> ET.Element:
        """A copy of an element that says something of the guest only; extensions of the hypervisor are refused."""
        copied = ET.Element(element.tag, self.attributes(element))
        copied.text = element.text
        for child in element:
            if self.is_plain(child):
                copied.append(self.kept(child))
        return copied

    def attributes(self, element: ET.Element) -> dict[str, str]:
        """The attributes of an element; those of extensions are refused."""
        for name in element.attrib:
            if name.startswith("{"):
                self.extension(name)
        return {name: value for name, value in element.attrib.items() if not name.startswith("{")}

    def is_plain(self, element: ET.Element) -> bool:
        """Whether an element is libvirt's own; an extension is refused."""
        if element.tag.startswith("{"):
            self.extension(element.tag)
            return False
        return True

    def extension(self, name: str) -> None:
        """Refuse what reaches past libvirt, such as C(qemu:commandline)."""
        space, _brace, tag = name[1:].partition("}")
        self.refuse(
            f"{shown(tag)} of {shown(space)}, which reaches past libvirt",
            "remove it from the guest where it was saved (virsh edit), and save it again",
        )


def shown(text: str | None) -> str:
    """A text that is not trusted, for a message: on one line, and not too long.

    >>> shown("br0"), shown("a\\nb"), shown(None)
    ('br0', 'a?b', 'nothing')
    """
    if text is None:
        return "nothing"
    line = "".join(letter if letter.isprintable() else "?" for letter in text)
    return line if len(line) <= 120 else line[:120] + "…"

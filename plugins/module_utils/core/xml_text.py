# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Read XML that somebody else has written: what libvirt says of a guest has parts that the guest's owner wrote.

libvirt itself never writes a document type, and one can make a few lines grow to gigabytes while they are read
(C(billion laughs)). Releases of expat before 2.4 do not notice. So none is read.
"""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET
from xml.parsers import expat

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal

#: libvirt passes no longer text from a daemon to a client (REMOTE_STRING_MAX of its protocol).
MOST_CHARACTERS = 4 * 1024**2
#: libvirt itself reads 256 levels.
MOST_LEVELS = 256


class XmlTextError(ValueError):
    """A text that is no XML as libvirt writes it; says why in words. C(refusal) is for those who can only report it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.refusal = refusal(
            "xml_unreadable",
            f"what libvirt says cannot be read: {why}",
            "look at it with virsh dumpxml, and correct it with virsh edit",
        )


def parsed(text: str) -> ET.Element:
    """The element in a text.

    Raises: XmlTextError, a ValueError, and no other error.

    >>> parsed("<domain><name>web1</name></domain>").findtext("name")
    'web1'
    >>> parsed("<!DOCTYPE x []><x/>")
    Traceback (most recent call last):
        ...
    ansible_collections.kvmops.cluster.plugins.module_utils.core.xml_text.XmlTextError: it declares a document type
    """
    if len(text) > MOST_CHARACTERS:
        raise XmlTextError(f"it has {len(text)} characters, and {MOST_CHARACTERS} is the most")
    try:
        # The words may be in a comment as well, so this only says when to look closely, which takes longer.
        if "<!DOCTYPE" in text:
            _refuse_document_type(text)
        root = ET.fromstring(text)
    except (ET.ParseError, expat.ExpatError) as error:
        raise XmlTextError(f"it is no XML ({error})") from error
    except UnicodeEncodeError as error:
        raise XmlTextError("it has characters that no text can have") from error
    if _levels_exceed(root):
        raise XmlTextError(f"its elements are nested more than {MOST_LEVELS} deep")
    return root


def _refuse_document_type(text: str) -> None:
    def refuse(*_about: t.Any) -> None:
        raise XmlTextError("it declares a document type")

    reader = expat.ParserCreate("utf-8")
    # This reader stops at once when a handler raises: nothing that is declared is expanded.
    reader.StartDoctypeDeclHandler = refuse
    reader.Parse(text.encode("utf-8"), True)


def _levels_exceed(root: ET.Element) -> bool:
    """Whether elements are nested too deeply. Level by level, so that this needs no depth itself."""
    level = [root]
    for _depth in range(MOST_LEVELS):
        level = [child for element in level for child in element]
        if not level:
            return False
    return True

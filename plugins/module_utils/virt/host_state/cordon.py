# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the maintenance record where every host can see it, in the host's own libvirtd.

# The record is the description of a libvirt secret object under a fixed UUID. The object holds no secret value; it is
# the one kind of object that any libvirt connection can read, that outlives a restart, and that no guest uses.

from __future__ import annotations

import contextlib
import json
import typing as t
import xml.etree.ElementTree as ET
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core import xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.run import maintenance
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import lost_connection
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection import VirtError

UUID = maintenance.PUBLISHED_AS


def publish(connection: t.Any, record: dict[str, t.Any]) -> Refusal | None:
    """Let all hosts see the record. Returns: None, or why they cannot. Then only the host's own file says it.

    Raises:
        VirtError: libvirt could do it, and failed.
    """
    try:
        connection.secretDefineXML(_xml(record), 0)
    except virt.libvirt.libvirtError as error:
        if _no_driver(error):
            return _not_published(error)
        raise _failed("publish", error) from error
    return None


def withdraw(connection: t.Any) -> Refusal | None:
    """Remove the record. Returns: None, or why nothing can have been published.

    Raises:
        VirtError: libvirt could do it, and failed.
    """
    try:
        connection.secretLookupByUUIDString(UUID).undefine()
    except virt.libvirt.libvirtError as error:
        if error.get_error_code() == virt.libvirt.VIR_ERR_NO_SECRET:
            return None
        if _no_driver(error):
            return _not_published(error)
        raise _failed("withdraw", error) from error
    return None


def read(connection: t.Any) -> dict[str, t.Any] | None:
    """The record that a host publishes, over any connection to it, read-only and remote ones included.

    Returns: the record; None if the host publishes none: it is open, or it has no secret driver.

    Raises:
        VirtError: the host could not be asked.
        RecordError: it publishes something that cannot be read; treat it as cordoned.
    """
    return look(connection)[0]


def look(connection: t.Any) -> tuple[dict[str, t.Any] | None, Refusal | None]:
    """As ``read``, and why nothing can be published on that host, if so."""
    try:
        xml = connection.secretLookupByUUIDString(UUID).XMLDesc(0)
    except virt.libvirt.libvirtError as error:
        if error.get_error_code() == virt.libvirt.VIR_ERR_NO_SECRET:
            return None, None
        if _no_driver(error):
            return None, _not_published(error)
        raise _failed("read", error) from error
    text = ""
    # An empty text is no record, and is told as such.
    with contextlib.suppress(xml_text.XmlTextError):
        text = xml_text.parsed(xml).findtext("description") or ""
    return maintenance.parsed(text, f"published as libvirt secret {UUID}"), None


def effective(connection: t.Any, state_dir: Path) -> dict[str, t.Any]:
    """The record that counts on this host: its file, unless that says active and another record is still published.

    Raises:
        RecordError: either of them is damaged.
        VirtError: libvirt could not be asked.
    """
    kept = maintenance.load(state_dir)
    if kept["state"] != "active":
        return kept
    return read(connection) or kept


def for_snapshot(connection: t.Any, state_dir: Path) -> dict[str, t.Any]:
    """As ``effective``, but a damaged record counts as cordoned."""
    try:
        return effective(connection, state_dir)
    except maintenance.RecordError as error:
        return {**maintenance.ACTIVE, "state": "cordoned", "reason": str(error)}


def _xml(record: dict[str, t.Any]) -> str:
    root = ET.Element("secret", ephemeral="no", private="no")
    ET.SubElement(root, "uuid").text = UUID
    ET.SubElement(root, "description").text = json.dumps(record, separators=(",", ":"), ensure_ascii=True)
    return ET.tostring(root, encoding="unicode")


def _no_driver(error: t.Any) -> bool:
    """libvirt without its secret driver says "not supported"; a modular one says that the socket is missing."""
    code, text = error.get_error_code(), str(error)
    return code == virt.libvirt.VIR_ERR_NO_SUPPORT or "virtsecretd" in text


def _not_published(error: t.Any) -> Refusal:
    return refusal(
        "record_not_published",
        f"other hosts cannot see the maintenance record: libvirt has no secret driver here ({error})",
        "install libvirt-daemon-driver-secret (and enable virtsecretd.socket); until then only runs that gather this "
        "host's snapshot know of it",
    )


def _failed(what: str, error: t.Any) -> VirtError:
    if lost_connection.is_lost(error):
        return VirtError(lost_connection.lost(error), error.get_error_code())
    return VirtError(
        refusal(
            "record_not_published",
            f"libvirt could not {what} the maintenance record: {error}",
            "run as root (become: true), and see journalctl -u libvirtd -u virtsecretd",
        ),
        error.get_error_code(),
    )

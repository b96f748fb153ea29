# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests with names that a shell, a template or a table would trip over: they move like any other."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from harness import actual_state
from harness.operator import Operator
from lab import Lab

NAMES = (
    "two words",
    "dots.in.a.name",
    "ünï-名前",
    'it\'s "quoted"',
    "-begins-with-a-dash",
    "$(touch owned)",
    "{{ 7 * 7 }}",
    "long-" + "x" * 195,
)
#: Those that one order each names; the others leave with a drain.
BY_NAME = ("two words", 'it\'s "quoted"')


def definition(lab: Lab, name: str) -> str:
    """A guest that does nothing: it boots no kernel, so it costs nothing, and there is little to move."""
    root = ET.fromstring(lab.host("h1").ssh("virsh dumpxml idle --inactive", check=True).stdout)
    for path in ("uuid", "os/kernel", "os/initrd", "os/cmdline", "metadata", "title"):
        parent, dummy, tag = path.rpartition("/")
        above = root.find(parent) if parent else root
        found = above.find(tag) if above is not None else None
        if above is not None and found is not None:
            above.remove(found)
    devices = root.find("devices")
    assert devices is not None
    # The disk is the other guest's.
    for tag in ("disk", "interface", "serial", "console"):
        for device in devices.findall(tag):
            devices.remove(device)
    for tag, text in (("name", name), ("memory", "65536"), ("currentMemory", "65536")):
        element = root.find(tag)
        assert element is not None
        element.text = text
    return ET.tostring(root, encoding="unicode")


@pytest.fixture
def oddly_named(lab: Lab) -> Lab:
    """Start the guests above on h1."""
    for number, name in enumerate(NAMES):
        place = f"/run/odd-{number}.xml"
        lab.host("h1").ssh_with(f"cat > {place} && virsh -q define {place}", definition(lab, name))
    lab.host("h1").ssh("for name in $(virsh -q list --inactive --uuid); do virsh -q start $name; done", check=True)
    assert sorted(set(actual_state.active_on(lab, "h1")) - set(lab.guests)) == sorted(NAMES)
    return lab


@pytest.mark.soak
def test_they_move_and_come_home(oddly_named: Lab, operator: Operator) -> None:
    ordinary = [guest.name for guest in oddly_named.guests.values() if guest.home == "h1"]
    for name in BY_NAME:
        order = {"destination": "h3", "destination_uri": "qemu+ssh://root@h3/system"}
        move = operator.run_module("h1", "domain_migrate", guest=name, **order)
        assert move.status == 0, move.text
        assert list(actual_state.everywhere(oddly_named)[name]) == ["h3"]

    drain = operator.run("drain_host", drain_host_name="h1", drain_host_exclude=ordinary)
    assert drain.status == 0, drain.text
    assert actual_state.active_on(oddly_named, "h1") == sorted(ordinary)
    [report] = operator.reports()
    rows = {row["guest"]: row["destination"] for row in report["guests"]}
    where = actual_state.everywhere(oddly_named)
    drained = [name for name in NAMES if name not in BY_NAME]
    assert {name: list(where[name].items()) for name in drained} == {
        name: [(rows[name], "running")] for name in drained
    }
    for name in drained:
        shown = name if len(name) <= 40 else name[:10]
        assert f"h1: {shown}" in drain.text, name
    assert max(len(line) for line in drain.text.splitlines() if line.startswith("s00")) < 160, "the table fell apart"

    home = operator.run("restore_host", restore_host_name="h1")
    assert home.status == 0, home.text
    assert actual_state.active_on(oddly_named, "h1") == sorted([*ordinary, *drained])

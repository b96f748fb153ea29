# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition import memory_xml
from ansible_collections.kvmops.cluster.tests.unit.builders import GIB, MIB

PAGE = 2 * MIB


def parts(inner, **pages):
    """(bytes, huge page, cells of the host) of each part."""
    root = ET.fromstring(f"<domain>{inner}</domain>")
    found = memory_xml.parts(root, memory_xml.Pages(**pages))
    return [(part["bytes"], part["page_bytes"], part["host_cells"]) for part in found]


def numa(*cells):
    told = "".join(
        f"<cell id='{number}' cpus='{number}' memory='{gib}' unit='GiB'/>" for number, gib in enumerate(cells)
    )
    return f"<memory unit='GiB'>{sum(cells)}</memory><cpu><numa>{told}</numa></cpu>"


def backing(*entries):
    return f"<memoryBacking><hugepages>{''.join(entries)}</hugepages></memoryBacking>"


def device(model, size, inner="", target="<node>0</node>"):
    return f"<memory model='{model}'>{inner}<target><size unit='MiB'>{size}</size>{target}</target></memory>"


ONE_GIB = "<page size='1' unit='GiB'/>"
OF_CELL_1 = "<page size='1' unit='GiB' nodeset='1'/>"


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ("<memory unit='GiB'>4</memory>", [(4 * GIB, None, None)]),
        ("<memory unit='GiB'>4</memory>" + backing(), [(4 * GIB, PAGE, None)]),
        ("<memory unit='GiB'>4</memory>" + backing(ONE_GIB), [(4 * GIB, GIB, None)]),
        # A page of the kernel's own size is ordinary memory.
        ("<memory unit='GiB'>4</memory>" + backing("<page size='4' unit='KiB'/>"), [(4 * GIB, None, None)]),
        # By guest cell; a cell without an entry of its own is ordinary.
        (
            numa(1, 3) + backing("<page size='2048' unit='KiB' nodeset='0'/>"),
            [(GIB, PAGE, None), (3 * GIB, None, None)],
        ),
        # An entry without cells is for all cells that have none of their own.
        (numa(1, 3) + backing(OF_CELL_1, "<page size='2' unit='MiB'/>"), [(GIB, PAGE, None), (3 * GIB, GIB, None)]),
        (numa(2, 2) + backing("<page size='2' unit='MiB' nodeset='0-1'/>"), [(4 * GIB, PAGE, None)]),
        (numa(1, 1) + backing(), [(2 * GIB, PAGE, None)]),
    ],
)
def test_pages_of_the_guests_own_memory(inner, expected):
    assert parts(inner) == expected


def test_an_architecture_with_large_ordinary_pages():
    inner = "<memory unit='GiB'>4</memory>" + backing("<page size='64' unit='KiB'/>")
    assert parts(inner, ordinary=64 << 10) == [(4 * GIB, None, None)]
    assert parts(inner) == [(4 * GIB, 64 << 10, None)]


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        # The page of its guest cell, unless the device has its own.
        (device("dimm", 1024), [(2 * GIB, PAGE, None)]),
        (
            device("dimm", 1024, "<source><pagesize unit='KiB'>1048576</pagesize></source>"),
            [(GIB, PAGE, None), (GIB, GIB, None)],
        ),
        (
            device("dimm", 1024, "<source><pagesize unit='KiB'>4</pagesize></source>"),
            [(GIB, PAGE, None), (GIB, None, None)],
        ),
        # What lies in a file takes no memory.
        (device("nvdimm", 512, "<source><path>/nv/db1</path></source>"), [(GIB, PAGE, None)]),
        (device("virtio-pmem", 512, "<source><path>/nv/db1</path></source>"), [(GIB, PAGE, None)]),
        # virtio-mem takes what it was asked for, or what it still has.
        (
            device(
                "virtio-mem",
                8192,
                "<source><pagesize unit='KiB'>4</pagesize></source>",
                "<node>0</node><requested unit='MiB'>256</requested><current unit='MiB'>512</current>",
            ),
            [(GIB, PAGE, None), (512 * MIB, None, None)],
        ),
        (
            device("virtio-mem", 512, target="<node>0</node><requested unit='MiB'>0</requested>"),
            [(GIB, PAGE, None)],
        ),
    ],
)
def test_pages_of_memory_devices(devices, expected):
    of_cell_0 = "<page size='2' unit='MiB' nodeset='0'/>"
    inner = f"{numa(1)}{backing(of_cell_0)}<devices>{devices}</devices>"
    assert parts(inner) == expected


def test_a_guest_without_cells_has_its_devices_besides():
    inner = "<memory unit='MiB'>1536</memory><devices>" + device("nvdimm", 512, target="") + "</devices>"
    assert parts(inner) == [(GIB, None, None)]


@pytest.mark.parametrize(
    ("tune", "cells"),
    [
        ("<memory mode='strict' nodeset='1'/>", [[1], [1]]),
        ("<memory nodeset='0-1'/>", [[0, 1], [0, 1]]),
        ("<memory mode='preferred' nodeset='1'/>", [None, None]),
        ("<memory mode='interleave' nodeset='0-1'/>", [None, None]),
        ("<memory mode='strict' placement='auto'/>", [None, None]),
        ("<memory mode='strict' nodeset='0'/><memnode cellid='1' mode='strict' nodeset='3'/>", [[0], [3]]),
        ("<memory mode='strict' nodeset='0'/><memnode cellid='1' mode='preferred' nodeset='3'/>", [[0], None]),
        ("<memory mode='restrictive' nodeset='2'/>", [[2], [2]]),
    ],
)
def test_cells_that_memory_is_bound_to(tune, cells):
    """The two cells of the guest have different pages, so that they are told apart."""
    inner = numa(1, 3) + backing("<page size='2' unit='MiB' nodeset='0'/>")
    assert [where for dummy, dummy, where in parts(f"{inner}<numatune>{tune}</numatune>")] == cells


def test_the_largest_page_is_told_as_before():
    for inner, expected in (
        ("", None),
        ("<memoryBacking><nosharepages/></memoryBacking>", None),
        (backing(), PAGE),
        (backing("<page size='1' unit='G'/>"), GIB),
        (backing("<page size='2048' unit='KiB' nodeset='0'/>", "<page size='1048576' nodeset='1'/>"), GIB),
        (backing("<page size='4' unit='KiB'/>"), None),
    ):
        assert memory_xml.largest_page(ET.fromstring(f"<domain>{inner}</domain>")) == expected

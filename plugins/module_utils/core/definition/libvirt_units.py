# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Sizes as libvirt writes them."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import whole_number

_UNITS = {
    "b": 1,
    "bytes": 1,
    "kb": 10**3,
    "k": 2**10,
    "kib": 2**10,
    "mb": 10**6,
    "m": 2**20,
    "mib": 2**20,
    "gb": 10**9,
    "g": 2**30,
    "gib": 2**30,
    "tb": 10**12,
    "t": 2**40,
    "tib": 2**40,
}


def amount(element: ET.Element | None) -> int | None:
    """Bytes of an element such as ``<memory unit='KiB'>524288</memory>``."""
    return amount_of(element.text, element.get("unit")) if element is not None else None


def amount_of(text: str | None, unit: str | None) -> int | None:
    """Bytes of a number and its unit; KiB is libvirt's unit where none is said. None for what is no number.

    >>> amount_of("2", None), amount_of(" 3 ", "GB"), amount_of("", "KiB")
    (2048, 3000000000, None)
    """
    number = whole_number(text)
    return None if number is None else number * _UNITS.get((unit or "KiB").lower(), 1024)

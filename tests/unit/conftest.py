# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Unit tests see the checkout as a collection: through build/collections, which ``make tools`` fills."""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

import pytest

LINK = Path(__file__).parents[2] / "build/collections/ansible_collections/kvmops/cluster"


def pytest_configure(config: pytest.Config) -> None:
    """Say what to do when the link is missing; otherwise every import would fail one by one."""
    if not (LINK / "galaxy.yml").is_file():
        raise pytest.UsageError(f"{LINK} is missing: run 'make tools' first.")
    # Before anything imports libvirt: unit tests never meet the real one.
    from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt

    sys.modules["libvirt"] = fake_libvirt


@pytest.fixture
def cluster() -> t.Any:
    """An empty cluster of fake hosts; the first one added is the one that qemu:///system leads to."""
    from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt

    return fake_libvirt.reset()

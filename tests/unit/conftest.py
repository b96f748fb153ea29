# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Unit tests see the checkout as a collection: through build/collections, which ``make tools`` fills."""

from __future__ import annotations

from pathlib import Path

import pytest

LINK = Path(__file__).parents[2] / "build/collections/ansible_collections/kvmops/cluster"


def pytest_configure(config: pytest.Config) -> None:
    """Say what to do when the link is missing; otherwise every import would fail one by one."""
    if not (LINK / "galaxy.yml").is_file():
        raise pytest.UsageError(f"{LINK} is missing: run 'make tools' first.")

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab for each worker of pytest-xdist, so that labs are tested side by side (pytest -p harness.side_by_side -n 2)."""

from __future__ import annotations

import os

#: The lab's own tests have the number above (tests/lab/tests), and people count from 0 on.
HIGHEST = 14


def instance(worker: str | None) -> str | None:
    """Which lab is for a worker; None: the one that it would be without workers.

    >>> instance("gw2"), instance("gw0"), instance(None)
    ('13', None, None)
    """
    number = int((worker or "gw0").removeprefix("gw"))
    return str(HIGHEST + 1 - number) if number else None


# Before anything asks for it.
_chosen = instance(os.environ.get("PYTEST_XDIST_WORKER"))
if _chosen is not None:
    os.environ["KVMOPS_LAB_INSTANCE"] = _chosen
    os.environ.pop("KVMOPS_LAB_STATE", None)

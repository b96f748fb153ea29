# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real libvirt cluster on one machine, for tests and demonstrations. See README.md."""

from __future__ import annotations

from lab.common.errors import LabError

from .cluster import Lab

__all__ = ["Lab", "LabError"]

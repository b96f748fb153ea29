# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the directory on a host for what must outlive a run.

from __future__ import annotations

import typing as t
from pathlib import Path

STATE_DIR = Path("/var/lib/kvmops")

# Must be kept in sync with plugins/doc_fragments/state_dir.py.
STATE_DIR_ARGUMENT: dict[str, dict[str, t.Any]] = {"state_dir": {"type": "path", "default": str(STATE_DIR)}}

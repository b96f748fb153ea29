# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a bench: python -m bench NAME."""

from __future__ import annotations

import sys

from harness.ansible import CHECKOUT

# Where Ansible finds the collection; the benches compute with its core.
sys.path.append(str(CHECKOUT / "build" / "collections"))

from .cli import main

sys.exit(main())

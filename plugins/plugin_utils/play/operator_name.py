# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: who runs a playbook.

from __future__ import annotations

import getpass
import socket


def operator_name() -> str:
    """User and machine, for those who find a host busy."""
    return f"{getpass.getuser()}@{socket.gethostname()}"

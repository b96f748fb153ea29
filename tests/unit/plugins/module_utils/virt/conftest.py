# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest


@pytest.fixture
def rig(cluster, monkeypatch, tmp_path):
    # Not before pytest is configured: only then does libvirt mean the stand-in.
    from ansible_collections.kvmops.cluster.tests.unit.movers import Rig

    made = Rig(cluster, monkeypatch, tmp_path)
    yield made
    made.connections.close()


@pytest.fixture
def postcopy(tmp_path):
    """Lets the source's QEMU do post-copy."""
    sysctl = tmp_path / "proc/sys/vm/unprivileged_userfaultfd"
    sysctl.parent.mkdir(parents=True)
    sysctl.write_text("1\n")

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.failure_remedy import remedy_of

OPEN = "open TCP 49152-49215 from h1 to h2 (or the ports that qemu.conf of h2 names: migration_port_min and _max)"
ROOM = "make room in the storage pool on h2 that the disks are copied to, then run it again"


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("unable to connect to server at 'h2:49152': Connection refused", OPEN),
        ("unable to connect to server at '198.18.0.12:49152': Connection timed out", OPEN),
        (
            (
                "internal error: unable to execute QEMU command 'blockdev-add': Failed to connect to "
                "'198.18.0.12:49153': No route to host"
            ),
            OPEN,
        ),
        ("Failed to connect to 'fd00::2:49153': Connection refused", OPEN),
        (
            "unable to connect to server at 'h2:16509': Connection refused",
            "see on h2 whether libvirt listens on port 16509, and open it for h1",
        ),
        ("operation failed: migration of disk vda failed: No space left on device", ROOM),
        ("cannot extend file '/images/a': Disk quota exceeded", ROOM),
        (
            "operation failed: migration of disk vda failed",
            (
                "see on h2 whether the storage pool is full (virsh pool-list --details), and whether the link between "
                "both hosts is up"
            ),
        ),
        (
            "internal error: failed to parse JSON: nesting too deep",
            (
                "shorten the chain of images that a disk rests on, which libvirt of h2 cannot read (virsh blockpull, "
                "or virsh blockcommit)"
            ),
        ),
        (
            "End of file while reading data: : Input/output error",
            (
                "see whether h1 reaches the ports of migrations of h2 (TCP 49152-49215), and the log of libvirt there "
                "(journalctl -u libvirtd -u virtqemud)"
            ),
        ),
        ("operation failed: job aborted by client", None),
        ("", None),
        (None, None),
    ],
)
def test_what_to_do_about_an_error_of_libvirt(error, remedy):
    assert remedy_of(error, "h1", "h2") == remedy

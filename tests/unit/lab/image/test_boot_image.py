# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from lab.image import boot_image


def test_the_ramdisk_is_a_cpio_archive():
    data = boot_image.archive([boot_image.Entry("bin", 0o40755), boot_image.Entry("bin/x", 0o100755, b"hello")])
    assert data.startswith(b"070701")
    assert b"bin/x\0" in data
    assert data[-124:].find(b"TRAILER!!!\0") > 0
    assert len(data) % 4 == 0

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from lab.image import base_image


def test_versions_come_from_the_package_database(tmp_path):
    database = tmp_path / "var/lib/dpkg/status"
    database.parent.mkdir(parents=True)
    database.write_text(
        "Package: libvirt-daemon\nVersion: 11.3.0-3+deb13u1\n\nPackage: qemu-system-x86\nVersion: 1:10.0.13+ds-0\n\n"
        "Package: bash\nVersion: 5.2\n",
        encoding="utf-8",
    )
    assert base_image.versions(tmp_path) == {"libvirt": "11.3.0", "qemu": "10.0.13"}

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths import daemon_environment


def test_the_environment_of_the_daemon(tmp_path):
    assert daemon_environment.environment(tmp_path) == daemon_environment.PLAIN
    for pid, name, environ in ((7, "bash", b"HOME=/home/eve\0"), (42, "libvirtd", b"PATH=/usr/bin\0A=b=c\0broken\0")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "comm").write_text(name + "\n")
        (tmp_path / str(pid) / "environ").write_bytes(environ)
    assert daemon_environment.environment(tmp_path) == {"PATH": "/usr/bin", "A": "b=c"}

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run import maintenance
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.source_settings import source_settings
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt


class Guest:
    """A guest whose definition has a password that not everybody may see."""

    def __init__(self, code: int | None = None, starts: bool = True) -> None:
        self.code, self.starts = code, starts

    def XMLDesc(self, flags):  # noqa: N802
        if not flags & libvirt.VIR_DOMAIN_XML_SECURE:
            return "<domain/>"
        if self.code is not None:
            raise libvirt.libvirtError("access denied: 'QEMU' denied access", self.code)
        return "<domain password='x'/>"

    def listAllCheckpoints(self, flags):  # noqa: N802
        return []

    def isActive(self):  # noqa: N802
        return True

    def isPersistent(self):  # noqa: N802
        return True

    def autostart(self):
        return int(self.starts)

    def UUIDString(self):  # noqa: N802
        return "u1"


@pytest.mark.parametrize(
    ("code", "kept"), [(None, "<domain password='x'/>"), (libvirt.VIR_ERR_ACCESS_DENIED, "<domain/>")]
)
def test_a_definition_is_kept_without_what_this_user_may_not_see(cluster, tmp_path, code, kept):
    found = source_settings(Guest(code), str(tmp_path))
    assert (found.definition, found.autostart) == (kept, True)


def test_any_other_error_is_no_reason_to_keep_less(cluster, tmp_path):
    with pytest.raises(libvirt.libvirtError):
        source_settings(Guest(libvirt.VIR_ERR_INTERNAL_ERROR), str(tmp_path))


@pytest.mark.parametrize(("uuid", "starts"), [("u1", True), ("u2", False)])
def test_the_mark_of_a_guest_that_was_off_when_its_host_was_closed_is_in_the_hosts_record(
    cluster, tmp_path, uuid, starts
):
    record = {**maintenance.ACTIVE, "state": "maintenance", "owner": "alice", "reason": "x", "since": "2026"}
    maintenance.store({**record, maintenance.AUTOSTART: [{"name": "web1", "uuid": uuid}]}, Path(tmp_path))
    assert source_settings(Guest(starts=False), str(tmp_path)).autostart is starts


def test_a_record_that_cannot_be_read_gives_no_mark(cluster, tmp_path):
    (tmp_path / maintenance.FILE).write_text("{", encoding="utf-8")
    assert source_settings(Guest(starts=False), str(tmp_path)).autostart is False

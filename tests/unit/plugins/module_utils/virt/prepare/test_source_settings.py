# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.source_settings import source_settings
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt


class Guest:
    """A guest whose definition has a password that not everybody may see."""

    def __init__(self, code: int | None) -> None:
        self.code = code

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
        return 1


@pytest.mark.parametrize(
    ("code", "kept"), [(None, "<domain password='x'/>"), (libvirt.VIR_ERR_ACCESS_DENIED, "<domain/>")]
)
def test_a_definition_is_kept_without_what_this_user_may_not_see(cluster, code, kept):
    found = source_settings(Guest(code))
    assert (found.definition, found.autostart) == (kept, True)


def test_any_other_error_is_no_reason_to_keep_less(cluster):
    with pytest.raises(libvirt.libvirtError):
        source_settings(Guest(libvirt.VIR_ERR_INTERNAL_ERROR))

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ansible_collections.kvmops.cluster.plugins.plugin_utils.play import far_end


@pytest.mark.parametrize(("value", "wanted"), [(None, False), (True, True), ("yes", True), ("no", False), ("", False)])
def test_each_host_says_itself_whether_its_store_must_be_encrypted(value, wanted):
    variables = {"kvmops_cluster_capsule_require_encrypted": value}
    assert far_end.encryption(SimpleNamespace(variable=variables.get)) is wanted


def test_a_value_that_is_neither_is_not_taken_for_no():
    with pytest.raises(TypeError):
        far_end.encryption(SimpleNamespace(variable=lambda name: "perhaps"))

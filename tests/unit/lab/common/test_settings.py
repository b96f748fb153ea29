# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from lab.common import settings
from lab.common.errors import LabError


@pytest.mark.parametrize("text", ["16", "-1", "one", ""])
def test_an_impossible_instance(monkeypatch, text):
    monkeypatch.setenv("KVMOPS_LAB_INSTANCE", text)
    with pytest.raises(LabError, match="KVMOPS_LAB_INSTANCE"):
        settings.from_environment()

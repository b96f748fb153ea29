# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import os

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.lease import Claim, LeaseError
from ansible_collections.kvmops.cluster.plugins.module_utils.run import json_files, leases, maintenance


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "make room on that file system, then run it again"),
        (errno.EDQUOT, "make room on that file system, then run it again"),
        (errno.EROFS, "see why that file system is read-only (dmesg), then run it again"),
        (errno.EACCES, "run it again as root (become: true)"),
    ],
)
def test_a_record_that_cannot_be_written_comes_with_what_to_do(monkeypatch, tmp_path, number, remedy):
    def fail(*_given, **_more):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(maintenance, "write_durably", fail)
    monkeypatch.setattr(leases, "write_durably", fail)
    assert json_files.remedy_of(OSError(number, "")) == remedy
    with pytest.raises(maintenance.RecordError) as refused:
        maintenance.store({"state": "active"}, tmp_path)
    assert refused.value.refusal["remedy"] == remedy
    assert os.strerror(number) in refused.value.refusal["reason"]
    with pytest.raises(LeaseError) as refused:
        leases.take(str(tmp_path), Claim("h1", "alice@admin1", "drain-h1"))
    assert refused.value.refusal["remedy"] == remedy

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import os
import tarfile

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import tpm_state

UUID = "0b7fd2f5-8a35-5b62-9ce9-7e4d2b1c9a10"


def state(root):
    folder = root / UUID / "tpm2"
    folder.mkdir(parents=True)
    (folder / "tpm2-00.permall").write_bytes(b"keys")
    (folder / ".lock").write_bytes(b"")
    return root


def tar(*entries, kind=tarfile.REGTYPE):
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as file:
        for name in entries:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            entry.linkname = "/etc/shadow"
            entry.size = 4 if kind == tarfile.REGTYPE else 0
            file.addfile(entry, io.BytesIO(b"evil"))
    return output.getvalue()


def test_the_state_goes_into_a_file_and_comes_out_again(tmp_path):
    data = tpm_state.packed(UUID, str(state(tmp_path)))
    assert tpm_state.unpacked(data) == {"tpm2/tpm2-00.permall": b"keys"}


def test_the_same_state_gives_the_same_bytes(tmp_path):
    root = state(tmp_path)
    first = tpm_state.packed(UUID, str(root))
    os.utime(root / UUID / "tpm2" / "tpm2-00.permall", (1, 1))
    assert tpm_state.packed(UUID, str(root)) == first


def test_a_guest_that_never_ran_has_no_state(tmp_path):
    assert tpm_state.packed(UUID, str(tmp_path)) is None


@pytest.mark.parametrize(
    "data",
    [
        tar("../../etc/cron.d/evil"),
        tar("/etc/cron.d/evil"),
        tar("tpm2/../../evil"),
        tar("tpm2/.hidden"),
        tar("other/file"),
        tar("tpm2/link", kind=tarfile.SYMTYPE),
        tar("tpm2/link", kind=tarfile.LNKTYPE),
        tar("tpm2/device", kind=tarfile.CHRTYPE),
        tar(*(f"tpm2/{number}" for number in range(65))),
        b"no tar at all" * 100,
    ],
)
def test_a_hostile_file_is_refused_as_a_whole(data):
    with pytest.raises(CapsuleError, match="the state of the TPM in the capsule cannot be used"):
        tpm_state.unpacked(data)


def test_the_state_is_put_where_libvirt_looks_for_it(tmp_path):
    folder = tpm_state.put(UUID, {"tpm2/tpm2-00.permall": b"keys"}, str(tmp_path), "/nowhere")
    assert folder == str(tmp_path / UUID)
    file = tmp_path / UUID / "tpm2" / "tpm2-00.permall"
    assert file.read_bytes() == b"keys"
    assert [path.stat().st_mode & 0o777 for path in (file, file.parent, file.parent.parent)] == [0o600, 0o700, 0o711]


def test_nothing_that_is_there_is_written_over(tmp_path):
    (tmp_path / UUID).mkdir()
    with pytest.raises(CapsuleError, match="see what is in the way: ls -la"):
        tpm_state.put(UUID, {"tpm2/a": b""}, str(tmp_path), "/nowhere")
    assert (tmp_path / UUID).is_dir()

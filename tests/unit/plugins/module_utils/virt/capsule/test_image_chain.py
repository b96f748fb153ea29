# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_chain import Layer, chain
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.capsule_image.qcow2_files import header

SIZE = 64 * 1024**2


def refused(path, form="qcow2"):
    with pytest.raises(CapsuleError) as caught:
        chain(str(path), form)
    return caught.value.refusal


def test_each_file_is_found_with_its_format(tmp_path):
    (tmp_path / "base.raw").write_bytes(bytes(4096))
    (tmp_path / "layer").write_bytes(header(backing="base.raw", backing_format="raw", cluster_bits=12))
    (tmp_path / "top").write_bytes(header(backing=str(tmp_path / "layer"), backing_format="qcow2"))
    assert chain(str(tmp_path / "top"), "qcow2") == [
        Layer(f"{tmp_path}/top", "qcow2", SIZE, 65536),
        Layer(f"{tmp_path}/layer", "qcow2", SIZE, 4096),
        Layer(f"{tmp_path}/base.raw", "raw", 4096, None),
    ]


def test_a_raw_image_is_never_looked_into(tmp_path):
    """A guest may write a qcow2 header into its raw disk."""
    (tmp_path / "disk").write_bytes(header(backing="/etc/shadow", backing_format="raw"))
    assert chain(str(tmp_path / "disk"), "raw") == [Layer(f"{tmp_path}/disk", "raw", 65536, None)]


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ({"features": 4}, "its content is in another file"),
        ({"backing": "nbd://evil/x", "backing_format": "raw"}, "it stands on 'nbd://evil/x', which is no file"),
        ({"backing": "json:x", "backing_format": "raw"}, "it stands on 'json:x', which is no file"),
        ({"backing": "fat:rw:/etc", "backing_format": "raw"}, "it stands on 'fat:rw:/etc', which is no file"),
        ({"backing": "top", "backing_format": "qcow2"}, "{0} is below itself"),
    ],
)
def test_what_names_something_that_it_may_not_name_is_not_used(tmp_path, made, why):
    path = tmp_path / "top"
    path.write_bytes(header(**made))
    assert refused(path) == {
        "code": "qcow2_hostile",
        "reason": f"{path} is not used: {why.format(path)}",
        "remedy": "if this image is yours, make a copy that stands alone: qemu-img convert -O qcow2",
    }


def test_a_file_below_whose_format_nobody_says_is_refused(tmp_path):
    (tmp_path / "base").write_bytes(bytes(4096))
    (tmp_path / "top").write_bytes(header(backing="base"))
    assert refused(tmp_path / "top") == {
        "code": "backing_format_unknown",
        "reason": f"{tmp_path}/top does not say the format of {tmp_path}/base below it;"
        " a guest could make a raw disk look like another one",
        "remedy": f"write it down while the guest is off: qemu-img rebase -u -F FORMAT -b base {tmp_path}/top",
    }
    assert len(chain(str(tmp_path / "top"), "qcow2", {f"{tmp_path}/base": "raw"})) == 2


@pytest.mark.parametrize(
    ("made", "code"),
    [
        ({"encryption": 2}, "qcow2_encrypted"),
        ({"features": 2}, "qcow2_corrupt"),
        ({"cluster_bits": 1}, "qcow2_damaged"),
        ({"backing": "base", "backing_format": "vmdk"}, "bad_format"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, made, code):
    (tmp_path / "base").write_bytes(b"")
    (tmp_path / "top").write_bytes(header(**made))
    assert refused(tmp_path / "top")["code"] == code


def test_what_is_no_image_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path / "pipe", "raw")["reason"] == f"{tmp_path}/pipe is no file and no block device"
    assert refused(tmp_path, "raw")["reason"] == f"{tmp_path} is no file and no block device"
    assert refused(tmp_path / "none", "raw")["reason"] == f"{tmp_path}/none cannot be read: No such file or directory"


def test_a_chain_that_is_too_long_is_refused(tmp_path):
    for number in range(20):
        (tmp_path / f"l{number}").write_bytes(header(backing=f"l{number + 1}", backing_format="qcow2"))
    assert refused(tmp_path / "l0")["code"] == "too_many_layers"

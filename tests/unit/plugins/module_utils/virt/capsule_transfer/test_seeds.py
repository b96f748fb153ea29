# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.canonical_json import canonical
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.seeds import seed
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.capsule.capsules import capsule
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.capsule_image.qcow2_files import (
    DATA_FILE,
    header,
)


@pytest.fixture
def carried(tmp_path):
    (tmp_path / "carried/images").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(bytes(8192))
    return tmp_path / "carried"


def refused(carried):
    store = CapsuleStore(str(carried.parent / "capsules"))
    store.prepare()
    with pytest.raises(CapsuleError) as caught:
        seed(store, str(carried), canonical(capsule()), "h2")
    assert store.images() == {}
    return caught.value.refusal


@pytest.mark.parametrize("backing", ["/etc/hostname", "../../secret"])
def test_a_carried_image_that_would_show_another_file_of_the_host_is_not_used(carried, backing):
    (carried / "images/a.qcow2").write_bytes(header(backing=backing, backing_format="raw"))
    found = refused(carried)
    below = os.path.realpath(carried / "images" / backing)
    assert found == {
        "code": "seed_hostile",
        "reason": f"{carried}/images/a.qcow2 is not used: it stands on {below}, which is neither on the disk that was"
        " carried here nor an image of the store",
        "remedy": "if this image is yours, make a copy that stands alone where its files are: qemu-img convert -O"
        " qcow2",
    }


def test_a_link_on_the_carried_disk_leads_out_of_it_for_nobody(carried):
    (carried / "images/base.raw").symlink_to(carried.parent / "secret")
    (carried / "images/a.qcow2").write_bytes(header(backing="base.raw", backing_format="raw"))
    assert refused(carried)["code"] == "seed_hostile"


def test_a_link_is_no_carried_image(carried):
    (carried / "images/a.raw").symlink_to(carried.parent / "secret")
    os.mkfifo(carried / "images/b.raw")
    found = refused(carried)
    assert (found["code"], found["reason"]) == ("seed_missing", f"there is no image in {carried} on this host")


def test_a_carried_image_with_its_content_in_another_file_is_not_used(carried):
    (carried / "a.qcow2").write_bytes(header(extensions=[(DATA_FILE, b"/etc/shadow")]))
    assert refused(carried)["reason"] == f"{carried}/a.qcow2 is not used: its content is in another file"

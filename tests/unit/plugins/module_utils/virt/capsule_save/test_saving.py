# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import layers
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save import (
    freezing,
    save_checks,
    save_record,
    saving,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save.saving import SaveRequest
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.virt.capsule_save.fake_host import (
    LIBVIRT,
    UUID,
    Died,
    FakeHost,
    LibvirtError,
)

OVERLAY = "db1.kvmops-1.qcow2"


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setattr(virt, "libvirt", LIBVIRT)
    # No unit test has qemu-img: a layer is an empty file, and a guest that has written to it has made it longer.
    monkeypatch.setattr(layers, "make", lambda path, *_rest: Path(path).touch())
    monkeypatch.setattr(layers, "is_written", lambda path: Path(path).exists() and Path(path).stat().st_size > 0)
    return FakeHost(tmp_path)


@pytest.fixture
def store(tmp_path):
    return CapsuleStore(str(tmp_path / "capsules"))


def request(**changes):
    usual = SaveRequest(
        guest="db1",
        host="h1",
        consistency=None,
        balloon=False,
        then="continue",
        sign_with=None,
        trust_domain="default",
        state_dir="/nowhere",
        check=False,
    )
    return usual._replace(**changes)


def on_layers(host):
    """Whether the guest runs on a layer that its definition names, too."""
    return host.active and host.paths(host.live) == host.paths(host.persistent) and OVERLAY in host.paths(host.live)[0]


def test_the_guest_goes_on_on_a_new_layer(host, store):
    found = saving.save(host, store, request())
    assert host.calls == ["define", "save", "restore"]
    assert on_layers(host)
    assert host.starts == 1
    assert (found["number"], found["state"], found["consistency"], found["resumed"]) == (1, "running", "memory", False)
    assert found["disks"][0]["full_because"] == "there is no block manifest of an earlier capsule of vda here"
    assert store.runs() == {}
    assert set(found["part_bytes"]) == {"definition"}
    assert store.known(UUID).number == 1
    document = store.capsule(UUID, 1).document
    assert document["versions"] == {"libvirt": "11.3.0", "qemu": "10.0.13"}
    assert document["disks"][0]["layers"] == [{"number": 1, "image": document["disks"][0]["image"]}]


def test_a_check_touches_nothing(host, store, tmp_path):
    found = saving.save(host, store, request(check=True))
    assert (host.calls, found["changed"], found["digest"]) == ([], True, None)
    assert found["notes"] == ["it would stand still for 1.0 s, at a usual rate, as nothing was saved here yet"]
    assert not (tmp_path / "capsules").exists()


@pytest.mark.parametrize("write", range(1, 8))
def test_the_next_run_ends_what_a_run_that_died_has_begun(host, store, monkeypatch, write):
    """It dies after each write of its record. Whatever happens, the guest runs, and there is one right capsule."""
    count = 0
    real = save_record.SaveRecord.write

    def dies(self, **changes):
        nonlocal count
        real(self, **changes)
        count += 1
        if count == write:
            raise Died

    monkeypatch.setattr(save_record.SaveRecord, "write", dies)
    died = False
    try:
        saving.save(host, store, request())
    except Died:
        died = True
    monkeypatch.setattr(save_record.SaveRecord, "write", real)
    assert died is (write <= 6)
    if died:
        found = saving.save(host, store, request())
        assert found["state"] == "running"
    assert on_layers(host)
    assert host.starts == 1
    assert [one.document["number"] for one in store.capsules(UUID)] == [1]
    assert store.runs() == {}
    capsule = store.capsule(UUID, 1).document
    assert store.image(capsule["memory"]["image"]) is not None
    assert store.changed(store.image(capsule["memory"]["image"])) is None


@pytest.mark.parametrize("call", ["define", "save", "restore"])
def test_it_may_die_in_the_middle_of_a_call_of_libvirts(host, store, monkeypatch, call):
    """libvirtd goes on with what it was told to do, and this process is gone."""
    real = host._call

    def dies(name):
        real(name)
        if name == call:
            monkeypatch.setattr(host, "_call", real)
            raise Died

    monkeypatch.setattr(host, "_call", dies)
    with pytest.raises(Died):
        saving.save(host, store, request())
    found = saving.save(host, store, request())
    assert found["state"] == "running"
    assert on_layers(host)
    assert [one.document["number"] for one in store.capsules(UUID)] == [1]


def test_a_guest_that_libvirt_does_not_save_is_as_before(host, store):
    before = host.persistent
    host.fails.add("save")
    with pytest.raises(LibvirtError):
        saving.save(host, store, request())
    assert host.active
    assert host.paths(host.persistent) == host.paths(before)
    assert not Path(host.disk.parent / OVERLAY).exists()
    assert store.runs() == {}
    host.fails.clear()
    assert saving.save(host, store, request())["number"] == 1


def test_a_guest_that_cannot_go_on_does_so_with_the_next_run(host, store):
    host.fails.add("restore")
    with pytest.raises(virt.VirtError, match="db1 was saved and could not go on: restore does not work"):
        saving.save(host, store, request())
    assert not host.active
    host.fails.clear()
    found = saving.save(host, store, request())
    assert (found["resumed"], found["state"]) == (True, "running")
    assert on_layers(host)


def test_memory_that_fits_the_disks_no_more_is_given_up(host, store):
    """Somebody has started the guest without its memory, and it has written to its layer and gone off."""
    host.fails.add("restore")
    with pytest.raises(virt.VirtError):
        saving.save(host, store, request())
    host.fails.clear()
    Path(host.disk.parent / OVERLAY).write_bytes(b"later")
    host.calls.clear()
    # Its layer is no real one here, so nothing is saved anew.
    with pytest.raises(virt.VirtError, match="cannot be used as qcow2"):
        saving.save(host, store, request())
    assert "restore" not in host.calls
    assert not host.active
    assert store.runs() == {}
    assert Path(host.disk.parent / OVERLAY).read_bytes() == b"later"


def test_a_guest_lets_go_of_nothing_if_its_nvram_cannot_be_copied(host, store, monkeypatch):
    monkeypatch.setattr(
        freezing.Freezer, "take_parts", lambda *_all: (dummy for dummy in ()).throw(OSError("disk is full"))
    )
    with pytest.raises(OSError, match="disk is full"):
        saving.save(host, store, request())
    assert on_layers(host)
    assert store.runs() == {}


def test_a_guest_that_is_to_stop_stays_off_and_gives_its_word(host, store):
    found = saving.save(host, store, request(then="stop"))
    assert not host.active
    assert host.starts == 0
    assert found["state"] == "stopped"
    assert found["stopped"]["digest"] == found["digest"]
    again = saving.save(host, store, request(then="stop"))
    assert (again["changed"], again["digest"], again["stopped"]) == (False, found["digest"], found["stopped"])


def test_a_guest_that_was_stopped_and_runs_again_is_saved_anew(host, store):
    saving.save(host, store, request(then="stop"))
    host.live = host.persistent
    # Its layer is no real one here, so nothing is saved anew.
    with pytest.raises(virt.VirtError, match="cannot be used as qcow2"):
        saving.save(host, store, request())
    assert store.runs() == {}


def test_a_guest_without_memory_is_frozen_while_it_runs(host, store):
    found = saving.save(host, store, request(consistency="crash"))
    assert host.calls == ["snapshot"]
    assert on_layers(host)
    assert (found["memory"], found["consistency"]) == (None, "crash")


def test_a_guest_that_is_off_is_frozen_as_it_is(host, store):
    host.live = None
    found = saving.save(host, store, request())
    assert (found["consistency"], found["state"]) == ("frozen", "off")
    assert found["consistency_because"] == "it is off, so its file systems are as they were unmounted"
    assert OVERLAY in host.paths(host.persistent)[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (request(guest="db9"), "there is no guest db9 on h1"),
        (request(consistency="frozen"), "no guest agent answers in db1"),
        (request(consistency="crash", then="stop"), "db1 runs, and without its memory all would be lost"),
        (request(sign_with="/nowhere/key"), "/nowhere/key cannot be read"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_done(host, store, change, words):
    with pytest.raises(virt.VirtError, match=words):
        saving.save(host, store, change)
    assert host.calls == []
    assert host.active


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("<hostdev mode='subsystem' type='pci'/>", "a device of its old host"),
        (
            "<disk type='block' device='disk'><source dev='/dev/sdb'/><target dev='vdb'/></disk>",
            "cannot be frozen here",
        ),
        (
            "<disk type='file' device='disk'><driver type='vmdk'/><source file='/x'/><target dev='vdb'/></disk>",
            "disk vdb of db1 is vmdk, and only raw and qcow2 can be frozen",
        ),
        (
            (
                "<disk type='file' device='disk'><driver type='qcow2'/><source file='/x'/>"
                "<backingStore type='network'><source protocol='nbd'/></backingStore><target dev='vdb'/></disk>"
            ),
            "disk vdb of db1 is still read from another host",
        ),
    ],
)
def test_guests_that_cannot_be_saved_are_named(host, store, device, words):
    host.live = host.persistent = host.persistent.replace("</devices>", f"{device}</devices>")
    with pytest.raises(virt.VirtError, match=words):
        saving.save(host, store, request())
    assert host.calls == []


def test_a_disk_that_was_plugged_in_while_the_guest_ran_is_named(host, store):
    more = "<disk type='file' device='disk'><driver type='raw'/><source file='/more.img'/><target dev='vdb'/></disk>"
    host.live = host.persistent.replace("</devices>", f"{more}</devices>")
    with pytest.raises(virt.VirtError) as error:
        saving.save(host, store, request())
    assert error.value.refusal["reason"] == (
        "db1 runs with another disk vdb (/more.img) than it starts with the next time (none)"
    )


def test_a_guest_that_did_not_stop_keeps_its_autostart(host, store, monkeypatch):
    """The host lost its power while it was saved for the last time here."""
    real = host._call

    def dies(name):
        if name == "save":
            monkeypatch.setattr(host, "_call", real)
            host.live = None
            raise Died
        real(name)

    monkeypatch.setattr(host, "_call", dies)
    with pytest.raises(Died):
        saving.save(host, store, request(then="stop"))
    assert host.starts == 0
    with pytest.raises(virt.VirtError, match="cannot be used as qcow2"):
        saving.save(host, store, request())
    assert host.starts == 1


def test_a_run_that_is_to_stop_it_does_so_after_it_has_ended_another(host, store, monkeypatch):
    host.fails.add("restore")
    with pytest.raises(virt.VirtError):
        saving.save(host, store, request())
    host.fails.clear()
    # The second capsule would stand on a layer that is no real one here.
    with pytest.raises(virt.VirtError, match="cannot be used as qcow2"):
        saving.save(host, store, request(then="stop"))
    assert [one.document["number"] for one in store.capsules(UUID)] == [1]


def test_a_disk_of_too_many_layers_is_refused_with_what_to_do(host, store, monkeypatch):
    real = save_checks.chain
    monkeypatch.setattr(save_checks, "chain", lambda path, form: real(path, form) * 17)
    with pytest.raises(virt.VirtError) as error:
        saving.save(host, store, request())
    assert error.value.refusal["reason"] == ("disk vda of db1 is made of 17 files already, and 16 layers is the most")
    assert error.value.refusal["remedy"] == (
        "merge those that no capsule needs alone, while it runs: capsule_prune with keep_last; or have all in one"
        " file again, which takes its full room: virsh blockpull db1 vda --wait"
    )
    assert host.calls == []


def test_no_room_is_said_before_the_guest_stands_still(host, store, monkeypatch):
    monkeypatch.setattr(CapsuleStore, "free_bytes", lambda _self: 1000)
    with pytest.raises(CapsuleError, match="free; the memory of db1 may take"):
        saving.save(host, store, request())
    assert host.calls == []


@pytest.mark.parametrize("check", [True, False])
def test_memory_is_not_saved_where_it_would_be_in_the_clear(host, tmp_path, check):
    """Nothing is done to the guest. Without its memory it can be saved there."""
    store = CapsuleStore(str(tmp_path / "capsules"), require_encrypted=True)
    with pytest.raises(CapsuleError) as caught:
        saving.save(host, store, request(check=check))
    assert caught.value.refusal["code"] in ("not_encrypted", "encryption_unknown")
    assert caught.value.refusal["reason"].startswith("the memory of db1 has its secrets, and ")
    assert host.calls == []
    if not check:
        assert saving.save(host, store, request(consistency="crash"))["memory"] is None

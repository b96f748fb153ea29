# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.available_methods import (
    needs_channels,
    unavailable,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.versions import TLS_SAFE_BYTES

ALL = {"allow_postcopy": True, "allow_suspend": True}
RECOVERABLE = {"allow_postcopy": "recoverable"}
CORRUPTS = {"code": "qemu_postcopy_corruption", "reason": "it was seen to damage memory", "remedy": "upgrade"}
OTHER = {"code": "qemu_long_queues", "reason": "something else", "remedy": "upgrade"}
NO_POSTCOPY = {"usable": False, "reason": "vm.unprivileged_userfaultfd is 0", "remedy": "sysctl"}


def host(name="h1", libvirt="11.3.0", qemu="10.0.2", **migration):
    return {"host": name, "versions": {"libvirt": libvirt, "qemu": qemu}, "migration": migration}


def unavailable_methods(source=None, destination=None, *, in_use_bytes=0, copies_disks=False, **intent):
    wanted = intents.normalise({"encryption": "off", **intent})
    return unavailable(
        source or host(), destination or host("h2"), wanted, in_use_bytes=in_use_bytes, copies_disks=copies_disks
    )


def test_two_hosts_of_now_have_all_in_common():
    assert unavailable_methods(**ALL) == {}


def test_what_a_host_does_not_say_is_held_against_nothing():
    for silent in ({"host": "h1"}, {"host": "h1", "migration": None, "versions": None}):
        assert unavailable_methods(silent, silent, **ALL) == {}


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, {"post-copy": "allow_postcopy is off", "suspend": "allow_suspend is off"}),
        ({"allow_postcopy": True}, {"suspend": "allow_suspend is off"}),
        ({"source": host(libvirt="12.8.0"), "destination": host("h2", libvirt="10.0.0"), **ALL, **RECOVERABLE}, {}),
        ({"source": host(libvirt="12.8.0"), **ALL, **RECOVERABLE},
         {"post-copy": "it could not be resumed: libvirt 11.3 on h2 dies when a broken post-copy is resumed"}),
        ({"destination": host("h2", libvirt="12.8.0"), **ALL, **RECOVERABLE},
         {"post-copy": "it could not be resumed: libvirt 11.3 on h1 dies when a broken post-copy is resumed"}),
        ({"source": host(libvirt=None), "destination": host("h2", libvirt="12.8.0"), **ALL, **RECOVERABLE},
         {"post-copy": "it could not be resumed: it is not known whether libvirt on h1 can resume a post-copy"}),
        ({"destination": host("h2", postcopy=NO_POSTCOPY), **ALL}, {"post-copy": "vm.unprivileged_userfaultfd is 0"}),
        ({"destination": host("h2", postcopy={"usable": False}), **ALL}, {"post-copy": "h2 cannot do it"}),
        # userfaultfd is for those that arrive.
        ({"source": host(postcopy=NO_POSTCOPY), **ALL}, {}),
        ({"source": host(known_bugs=[CORRUPTS, OTHER]), **ALL}, {"post-copy": "it was seen to damage memory"}),
        ({"source": host(known_bugs=[OTHER]), **ALL}, {}),
        ({"destination": host("h2", known_bugs=[CORRUPTS]), **ALL}, {}),
        ({"source": host(postcopy={"usable": None}), **ALL}, {}),
        # Debian 12: neither libvirt 9.0 nor QEMU 7.2 has zstd over several channels.
        ({"source": host(libvirt="9.0.0", qemu="7.2.0"), **ALL},
         {"parallel-zstd": "libvirt and QEMU on h1 have no zstd"}),
        ({"destination": host("h2", compression=["xbzrle"]), **ALL},
         {"parallel-zstd": "libvirt and QEMU on h2 have no zstd"}),
        ({"source": host(compression=[]), **ALL},
         {"parallel-zstd": "libvirt and QEMU on h1 have no zstd", "xbzrle": "libvirt and QEMU on h1 have no xbzrle"}),
        # xbzrle is unpacked by any QEMU.
        ({"destination": host("h2", compression=["zstd"]), **ALL}, {}),
    ],
)  # fmt: skip
def test_what_is_unavailable_says_why(given, names):
    assert unavailable_methods(**given) == names


def test_an_option_is_named_only_where_it_would_open_something():
    """Else an operator would permit post-copy and be told then that the host cannot do it."""
    assert (
        unavailable_methods(destination=host("h2", postcopy=NO_POSTCOPY))["post-copy"]
        == "vm.unprivileged_userfaultfd is 0"
    )
    huge = unavailable_methods(in_use_bytes=TLS_SAFE_BYTES, encryption="required")
    assert "several channels" in huge["post-copy"]


@pytest.mark.parametrize(
    ("count", "encryption", "several"),
    [(TLS_SAFE_BYTES, "required", True), (TLS_SAFE_BYTES - 1, "required", False), (TLS_SAFE_BYTES * 9, "off", False)],
)
def test_what_is_not_safe_over_one_encrypted_channel_takes_several(count, encryption, several):
    wanted = intents.normalise({"encryption": encryption})
    assert needs_channels(wanted, count) == several
    found = unavailable_methods(in_use_bytes=count, encryption=encryption, **ALL)
    assert set(found) == ({"xbzrle", "post-copy"} if several else set())


@pytest.mark.parametrize(
    ("libvirt", "encryption", "copies_disks", "names"),
    [
        ("10.2.0", "required", True, {"post-copy", "parallel-zstd"}),
        ("10.3.0", "required", True, set()),
        ("10.2.0", "off", True, set()),
        ("10.2.0", "required", False, set()),
    ],
)
def test_encrypted_disks_go_alone_before_libvirt_10_3(libvirt, encryption, copies_disks, names):
    for ends in ((host(libvirt=libvirt), host("h2")), (host(), host("h2", libvirt=libvirt))):
        assert set(unavailable_methods(*ends, encryption=encryption, copies_disks=copies_disks, **ALL)) == names

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy import (
    Path,
    bracketed,
    choose,
    host_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.versions import TLS_SAFE_BYTES

URI = "qemu+ssh://root@h2.example.org/system"
ALWAYS = {"LIVE", "PEER2PEER", "ABORT_ON_ERROR"}
DEFINITION = {"PERSIST_DEST", "UNDEFINE_SOURCE"}


def chosen(*, persistent=True, path=None, disks=(), in_use_bytes=0, **intent):
    wanted = intents.normalise({"encryption": "off", **intent})
    return choose(wanted, path or Path(URI), persistent=persistent, disks_to_copy=disks, in_use_bytes=in_use_bytes)


@pytest.mark.parametrize(
    ("given", "flags"),
    [
        ({}, ALWAYS | DEFINITION),
        ({"persistent": False}, ALWAYS),
        ({"encryption": "required"}, ALWAYS | DEFINITION | {"TLS"}),
        ({"allow_postcopy": True}, ALWAYS | DEFINITION),
        ({"allow_postcopy": True, "path": Path(URI, postcopy=True)}, ALWAYS | DEFINITION | {"POSTCOPY"}),
        ({"path": Path(URI, postcopy=True)}, ALWAYS | DEFINITION),
        ({"disks": ["vda"]}, ALWAYS | DEFINITION | {"NON_SHARED_DISK"}),
        ({"in_use_bytes": TLS_SAFE_BYTES}, ALWAYS | DEFINITION),
        ({"in_use_bytes": TLS_SAFE_BYTES - 1, "encryption": "required"}, ALWAYS | DEFINITION | {"TLS"}),
        (
            {"in_use_bytes": TLS_SAFE_BYTES, "encryption": "required", "allow_postcopy": True}
            | {"path": Path(URI, postcopy=True)},
            ALWAYS | DEFINITION | {"TLS", "PARALLEL"},
        ),
    ],
)
def test_flags(given, flags):
    decision = chosen(**given)
    assert set(decision.flags) == flags
    assert len(decision.flags) == len(flags)
    assert decision.postcopy == ("POSTCOPY" in flags)


@pytest.mark.parametrize(
    ("given", "parameters"),
    [
        ({}, {}),
        ({"path": Path(URI, "198.18.0.12")}, {"migrate_uri": "tcp://198.18.0.12"}),
        ({"path": Path(URI, "fd00::12")}, {"migrate_uri": "tcp://[fd00::12]"}),
        ({"path": Path(URI, "[fd00::12]")}, {"migrate_uri": "tcp://[fd00::12]"}),
        ({"path": Path(URI, "h2-migration.example.org")}, {"migrate_uri": "tcp://h2-migration.example.org"}),
        (
            {"path": Path(URI, "198.18.0.12"), "encryption": "required"},
            {"migrate_uri": "tcp://198.18.0.12", "tls.destination": "h2.example.org"},
        ),
        (
            {"path": Path("qemu+ssh:///system?socket=/x", "198.18.0.12"), "encryption": "required"},
            {"migrate_uri": "tcp://198.18.0.12", "tls.destination": "198.18.0.12"},
        ),
        ({"encryption": "required"}, {}),
        ({"bandwidth_mib_s": 100}, {"bandwidth": 100}),
        ({"disks": ("vda", "vdb")}, {"migrate_disks": ["vda", "vdb"]}),
    ],
)
def test_parameters(given, parameters):
    decision = chosen(**given)
    assert {name: decision.parameters.get(name) for name in parameters} == parameters
    assert set(decision.parameters) == set(parameters)
    assert None not in decision.parameters.values()


@pytest.mark.parametrize(
    ("max_downtime_ms", "opening", "cap"), [(500, 60, 500), (60, 60, 60), (10, 10, 10), (2_000_000, 60, 2_000_000)]
)
def test_it_opens_with_a_low_limit_and_never_above_the_cap(max_downtime_ms, opening, cap):
    decision = chosen(max_downtime_ms=max_downtime_ms)
    assert (decision.downtime_ms, decision.downtime_cap_ms) == (opening, cap)


def test_what_the_intent_says_reaches_the_decision():
    decision = chosen(deadline_s=90, allow_suspend=True, path=Path(URI, postcopy=True))
    assert (decision.deadline_s, decision.suspend, decision.postcopy) == (90, True, False)
    assert chosen().deadline_s is None
    assert not chosen().suspend


@pytest.mark.parametrize(
    ("given", "name", "reason"),
    [
        ({}, "pre-copy", "pre-copy with a low downtime limit first, up to 500 ms where needed"),
        (
            {"disks": ["vda", "vdb"], "max_downtime_ms": 200},
            "pre-copy+disks",
            "pre-copy with a low downtime limit first, up to 200 ms where needed; disks vda, vdb are copied along",
        ),
        (
            {"allow_postcopy": True, "allow_suspend": True, "path": Path(URI, postcopy=True)},
            "pre-copy",
            (
                "pre-copy with a low downtime limit first, up to 500 ms where needed; post-copy if that does not"
                " converge; the guest is stopped to finish if nothing else ends it"
            ),
        ),
    ],
)
def test_it_says_why(given, name, reason):
    decision = chosen(**given)
    assert (decision.name, decision.reason) == (name, reason)


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("qemu+ssh://root@h2/system", "h2"),
        ("qemu+tls://h2.example.org:16514/system", "h2.example.org"),
        ("qemu+ssh://root@[fd00::12]/system", "fd00::12"),
        ("qemu:///system", None),
        ("", None),
        ("qemu+ssh://root@[fd00::12/system", None),
    ],
)
def test_host_of(uri, host):
    assert host_of(uri) == host


@pytest.mark.parametrize(
    ("address", "shown"),
    [("198.18.0.12", "198.18.0.12"), ("fd00::1", "[fd00::1]"), ("[fd00::1]", "[fd00::1]"), ("h2", "h2")],
)
def test_bracketed(address, shown):
    assert bracketed(address) == shown

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import (
    Path,
    bracketed,
    decide,
    host_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.versions import TLS_SAFE_BYTES

URI = "qemu+ssh://root@h2.example.org/system"
ALWAYS = {"LIVE", "PEER2PEER", "ABORT_ON_ERROR"}
DEFINITION = {"PERSIST_DEST", "UNDEFINE_SOURCE"}


def choice(method="pre-copy", fallbacks=(), **settings):
    return {
        "schema": "kvmops.choice/1",
        "method": method,
        "verdict": "converges",
        "reason": f"{method}: because",
        "why_not": {},
        "settings": settings,
        "rounds": None,
        "bytes": None,
        "total_s": None,
        "downtime_ms": None,
        "work_lost_s": None,
        "fallbacks": list(fallbacks),
        "bandwidth_bytes_per_s": None,
        "needed_bytes_per_s": None,
        "measured_at": None,
        "refusal": None,
    }


FILLED = ", and blocks of zeros become allocated there (before libvirt 10.9)"
TWO_DISKS = (
    {"target": "vda", "copy_bytes": 10, "capacity_bytes": 100},
    {"target": "vdb", "copy_bytes": None, "capacity_bytes": None},
)


def chosen(made=None, *, persistent=True, path=None, disks=(), keeps_holes=False, in_use_bytes=0, link=None, **intent):
    wanted = intents.normalise({"encryption": "off", **intent})
    return decide(
        wanted,
        path or Path(URI),
        made,
        persistent=persistent,
        disks_to_copy=disks,
        keeps_holes=keeps_holes,
        in_use_bytes=in_use_bytes,
        link=link,
    )


@pytest.mark.parametrize(
    ("given", "flags"),
    [
        ({}, ALWAYS | DEFINITION),
        ({"persistent": False}, ALWAYS),
        ({"encryption": "required"}, ALWAYS | DEFINITION | {"TLS"}),
        ({"allow_postcopy": True}, ALWAYS | DEFINITION),
        ({"allow_postcopy": True, "path": Path(URI, postcopy=True)}, ALWAYS | DEFINITION | {"POSTCOPY"}),
        ({"path": Path(URI, postcopy=True)}, ALWAYS | DEFINITION),
        ({"disks": [{"target": "vda"}]}, ALWAYS | DEFINITION | {"NON_SHARED_DISK"}),
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
        ({"disks": TWO_DISKS}, {"migrate_disks": ["vda", "vdb"]}),
        (
            {"disks": TWO_DISKS, "keeps_holes": True},
            {"migrate_disks": ["vda", "vdb"], "migrate_disks_detect_zeroes": ["vda", "vdb"]},
        ),
        ({"keeps_holes": True}, {}),
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


def test_under_a_cap_the_limit_may_be_as_much_longer_as_the_last_copy_is_faster():
    link = Link(100e6)
    capped = chosen(link=link.limited(10e6), max_downtime_ms=500)
    assert (capped.downtime_cap_ms, capped.limit_cap_ms) == (500, 5000)
    assert chosen(link=link, max_downtime_ms=500).limit_cap_ms == 500
    assert chosen(max_downtime_ms=500).limit_cap_ms == 500
    # QEMU takes no higher one.
    assert chosen(link=link.limited(1e6), max_downtime_ms=2_000_000).limit_cap_ms == 2_000_000


def test_what_the_intent_says_reaches_the_decision():
    decision = chosen(deadline_s=90, allow_suspend=True, path=Path(URI, postcopy=True))
    assert (decision.deadline_s, decision.suspend, decision.postcopy) == (90, True, False)
    assert chosen().deadline_s is None
    assert not chosen().suspend


POSTCOPY = {"allow_postcopy": True, "path": Path(URI, postcopy=True)}


@pytest.mark.parametrize(
    ("made", "given", "flags", "parameters"),
    [
        (choice(), {}, set(), {}),
        (choice("raise-downtime", after_rounds=2, raise_to_ms=700), {}, set(), {}),
        (
            choice("xbzrle", cache_bytes=1 << 28),
            {},
            {"COMPRESSED"},
            {"compression": ["xbzrle"], "compression.xbzrle.cache": 1 << 28},
        ),
        (
            choice("xbzrle", ["post-copy"], cache_bytes=1 << 28),
            POSTCOPY,
            {"COMPRESSED", "POSTCOPY"},
            {"compression": ["xbzrle"], "compression.xbzrle.cache": 1 << 28},
        ),
        (
            choice("parallel-zstd"),
            {"encryption": "required"},
            {"COMPRESSED", "PARALLEL", "TLS"},
            {"compression": ["zstd"], "parallel.connections": 2},
        ),
        # Several channels and post-copy do not go together.
        (
            choice("parallel-zstd", ["post-copy"]),
            POSTCOPY,
            {"COMPRESSED", "PARALLEL"},
            {"compression": ["zstd"], "parallel.connections": 2},
        ),
        (choice("throttle", throttle_pct=97), {}, {"AUTO_CONVERGE"}, {"auto_converge.initial": 97}),
        # QEMU takes 1 at the least.
        (choice("throttle", throttle_pct=0), {}, {"AUTO_CONVERGE"}, {"auto_converge.initial": 1}),
        (choice("post-copy", after_rounds=1), POSTCOPY, {"POSTCOPY"}, {}),
        (choice("suspend", after_rounds=1), {"allow_suspend": True}, set(), {}),
        (
            choice(),
            {"in_use_bytes": TLS_SAFE_BYTES, "encryption": "required"},
            {"TLS", "PARALLEL"},
            {"parallel.connections": 2},
        ),
    ],
)
def test_each_method_is_asked_for_by_its_flags_and_parameters(made, given, flags, parameters):
    decision = chosen(made, **given)
    assert set(decision.flags) == ALWAYS | DEFINITION | flags
    assert decision.parameters == parameters
    assert (decision.method, decision.after_rounds) == (made["method"], made["settings"].get("after_rounds"))
    assert decision.postcopy == ("POSTCOPY" in flags)


def test_post_copy_that_was_ruled_out_is_not_armed():
    made = {**choice(), "why_not": {"post-copy": "one of the hosts does not offer it"}}
    assert "POSTCOPY" not in chosen(made, **POSTCOPY).flags
    made = {**choice(fallbacks=["post-copy"]), "why_not": {"post-copy": "it is dearer"}}
    assert "POSTCOPY" in chosen(made, **POSTCOPY).flags


def test_the_limit_is_the_one_that_was_forecast():
    assert chosen(choice(limit_ms=392)).downtime_ms == 392
    assert chosen(choice(limit_ms=30), max_downtime_ms=500).downtime_cap_ms == 500


@pytest.mark.parametrize(
    ("made", "disks", "name", "reason"),
    [
        (choice(), [], "pre-copy", "pre-copy: because"),
        (
            choice(),
            TWO_DISKS,
            "pre-copy+disks",
            f"pre-copy: because; disks vda and vdb are copied too{FILLED}",
        ),
        (choice("post-copy"), [], "post-copy", "post-copy: because"),
        (None, [], "pre-copy", "somebody else has started it, so its method stays as it is"),
    ],
)
def test_it_says_why(made, disks, name, reason):
    decision = chosen(made, disks=disks)
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


def test_where_holes_are_kept_there_is_nothing_to_say():
    decision = chosen(choice(), disks=TWO_DISKS[:1], keeps_holes=True)
    assert decision.reason == "pre-copy: because; disk vda is copied too"


def test_the_sizes_of_what_is_copied_are_known_to_who_counts_it():
    decision = chosen(choice(), disks=TWO_DISKS)
    assert (decision.copy_bytes, decision.copy_capacity_bytes) == (10, 100)
    assert (chosen(choice()).copy_bytes, chosen(choice()).copy_capacity_bytes) == (0, 0)

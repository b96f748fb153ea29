# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools
import itertools
import json
import re

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.forecast import METHODS, forecast
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.available_methods import unavailable
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.choice import (
    DISKS_NEVER_COPIED,
    TRIED,
    choose,
)
from ansible_collections.kvmops.cluster.tests.unit.working_sets import MIB, fitted, measured

#: 200 Mbit/s, as the job statistics count it.
LINK = Link(23.94e6)
#: A guest whose memory does not compress and whose pages change as a whole: nothing helps but what is permitted.
WHOLE = {"compressed_share": 1.0, "hot_compressed_share": 1.0, "sparse": 1.0, "vcpu_utilisation": 0.04}
SPARSE = {**WHOLE, "sparse": 0.01}
PACKS = {**WHOLE, "compressed_share": 0.25, "hot_compressed_share": 0.25}

IDLE = measured(fitted(), **WHOLE)
CONVERGENT = measured(fitted(16, 10), **WHOLE)
EDGE = measured(fitted(16, 19.5), **WHOLE)
HOT = measured(fitted(64, 78), **WHOLE)
COLD = measured(fitted(cold=100), **WHOLE)
UNMEASURED = {**measured(fitted(), **{**WHOLE, "compressed_share": None, "sparse": None}), "points": [], "fit": None}
#: What two hosts of now have in common.
HOST = {"host": "h1", "versions": {"libvirt": "11.3.0", "qemu": "10.0.2"},
        "migration": {"postcopy": {"usable": True}, "compression": ["xbzrle", "zlib", "zstd"]}}  # fmt: skip


def wanted(**intent):
    return intents.normalise({"encryption": "off", **intent})


@functools.cache
def forecast_of(guest, link, cap_ms):
    """The forecast as text; many intents ask for the same one."""
    working_set, disks = json.loads(guest)
    document = forecast(working_set, link, cap_ms=cap_ms, limit_ms=30, xbzrle_cache_bytes=256 * MIB, disks=disks)
    return json.dumps(document)


def chosen(working_set, link=LINK, *, recoverable=True, tried=(), disks=(), ruled_out=None, **intent):
    """What is chosen between two hosts of now, as ``core.strategy.appraisal`` puts it together."""
    complete = wanted(**intent)
    cap = complete["bandwidth_mib_s"]
    capped = link if cap is None else link.limited(cap * MIB)
    document = json.loads(forecast_of(json.dumps([working_set, disks]), capped, complete["max_downtime_ms"]))
    reasons = {**unavailable(HOST, HOST, complete, in_use_bytes=working_set["touched_bytes"]), **(ruled_out or {})}
    return choose(document, complete, reasons, recoverable=recoverable, tried=tried)


class TestMethod:
    @pytest.mark.parametrize(
        ("working_set", "intent", "method"),
        [
            (IDLE, {}, "pre-copy"),
            (IDLE, {"allow_postcopy": True, "allow_suspend": True}, "pre-copy"),
            (measured(fitted(), **PACKS), {}, "parallel-zstd"),
            (measured(fitted(16, 8), **PACKS), {}, "parallel-zstd"),
            # What lies still compresses and what is rewritten does not: it still saves most of the first pass.
            (measured(fitted(16, 8), **{**PACKS, "hot_compressed_share": 1.0}), {}, "parallel-zstd"),
            (CONVERGENT, {}, "pre-copy"),
            (measured(fitted(16, 10), **SPARSE), {}, "pre-copy"),
            (measured(fitted(64, 78), **SPARSE), {}, "xbzrle"),
            (measured(fitted(64, 78), **SPARSE), {"allow_postcopy": True}, "xbzrle"),
            (HOT, {"allow_postcopy": True}, "post-copy"),
            (HOT, {"allow_suspend": True}, "suspend"),
            (HOT, {"allow_postcopy": True, "allow_suspend": True}, "post-copy"),
            (HOT, {"max_downtime_ms": 3300}, "raise-downtime"),
            (HOT, {"max_downtime_ms": 5000}, "pre-copy"),
            (HOT, {}, None),
            (COLD, {}, None),
            (COLD, {"allow_postcopy": True}, "post-copy"),
            # A throttle takes CPU time: it is for guests that use it, and freezes the others.
            (measured(fitted(64, 40), **{**WHOLE, "vcpu_utilisation": 1.0}), {}, "throttle"),
            (measured(fitted(64, 40), **WHOLE), {}, None),
        ],
    )  # fmt: skip
    def test_is_the_cheapest_that_keeps_the_intent(self, working_set, intent, method):
        found = chosen(working_set, **intent)
        assert found["method"] == method
        assert (found["refusal"] is None) == (method is not None)
        assert set(found["why_not"]) == set(METHODS) - {method}
        assert method not in found["fallbacks"]

    @pytest.mark.parametrize("rate", [300e6, 1.2e9, 3e9])
    def test_compression_is_for_links_that_are_slower_than_it(self, rate):
        guest = measured(fitted(), memory=65536, touched=40_000, **PACKS)
        assert chosen(guest, Link(rate))["method"] == ("parallel-zstd" if rate < 1e9 else "pre-copy")

    def test_a_move_takes_what_it_costs_along(self):
        found = chosen(HOT, allow_postcopy=True)
        assert found["settings"] == {"limit_ms": 30, "after_rounds": 1}
        assert found["downtime_ms"]["value"] <= 100
        assert found["work_lost_s"]["value"] > 2
        assert (found["bandwidth_bytes_per_s"], found["measured_at"]) == (23_940_000, "2026-11-24T02:00:00Z")
        assert json.loads(json.dumps(found)) == found

    def test_fallbacks_are_those_that_keep_the_intent_too_the_cheapest_first(self):
        found = chosen(measured(fitted(64, 78), **SPARSE), allow_postcopy=True, allow_suspend=True)
        assert (found["method"], found["fallbacks"]) == ("xbzrle", ["post-copy", "suspend"])

    def test_the_way_that_cannot_be_resumed_is_for_guests_that_nothing_else_moves(self):
        busy = measured(fitted(64, 40), **{**WHOLE, "vcpu_utilisation": 1.0})
        both = {"allow_postcopy": True, "allow_suspend": True}
        assert chosen(busy, **both)["method"] == "post-copy"
        assert chosen(busy, recoverable=False, **both)["method"] == "suspend"
        alone = chosen(HOT, recoverable=False, allow_postcopy=True)
        assert alone["method"] == "post-copy"
        assert "cannot be resumed if the link breaks" in alone["reason"]
        assert "resumed" not in chosen(HOT, allow_postcopy=True)["reason"]

    def test_what_is_unavailable_or_was_tried_is_not_taken(self):
        sparse = measured(fitted(64, 78), **SPARSE)
        found = chosen(sparse, ruled_out={"xbzrle": "libvirt and QEMU on h2 have no xbzrle"}, allow_postcopy=True)
        assert (found["method"], found["why_not"]["xbzrle"]) == ("post-copy", "libvirt and QEMU on h2 have no xbzrle")
        tried = chosen(sparse, tried=["xbzrle"], allow_postcopy=True)
        assert (tried["method"], tried["why_not"]["xbzrle"]) == ("post-copy", TRIED)
        assert chosen(sparse, tried=["xbzrle", "post-copy"], allow_postcopy=True)["method"] is None

    def test_a_huge_encrypted_guest_goes_over_several_channels_only(self):
        huge = measured(fitted(64, 78), memory=200_000, touched=100_000, **SPARSE)
        found = chosen(huge, encryption="required", allow_postcopy=True, allow_suspend=True)
        assert found["method"] == "suspend"
        assert "several channels" in found["why_not"]["xbzrle"]
        assert "several channels" in found["why_not"]["post-copy"]
        assert chosen(huge, encryption="off")["method"] == "xbzrle"

    def test_disks_that_are_written_faster_than_the_link_end_nothing(self):
        busy = {**IDLE, "disk_write_bytes_per_s": 2 * LINK.bandwidth_bytes_per_s}
        found = chosen(busy, disks=[{"copy_bytes": 10**9}], allow_postcopy=True)
        assert found["method"] is None
        assert {found["why_not"][name] for name in METHODS if name != "suspend"} == {DISKS_NEVER_COPIED}
        assert "shared storage" in found["refusal"]["remedy"]


class TestDoubt:
    def test_a_marginal_guest_is_helped_where_help_is_permitted(self):
        assert chosen(EDGE, allow_postcopy=True)["method"] == "post-copy"
        # With something at hand that ends it for sure, the way that likely does is worth a try.
        armed = chosen(EDGE, allow_suspend=True)
        assert (armed["method"], armed["verdict"]) == ("pre-copy", "marginal")
        assert "suspend" in armed["fallbacks"]

    def test_a_marginal_guest_that_nothing_helps_is_tried(self):
        alone = chosen({**EDGE, "vcpu_utilisation": None})
        assert (alone["method"], alone["verdict"]) == ("pre-copy", "marginal")
        assert alone["reason"].endswith("too close for a forecast")

    def test_several_channels_cannot_fall_back_on_post_copy(self):
        guest = measured(fitted(16, 19.5), **{**WHOLE, "compressed_share": 0.3, "hot_compressed_share": 0.9})
        packed = chosen(guest, ruled_out={"pre-copy": "no", "xbzrle": "no", "throttle": "no"})
        assert (packed["method"], packed["verdict"]) == ("parallel-zstd", "marginal")
        assert chosen(guest, allow_postcopy=True)["method"] == "post-copy"

    def test_a_guest_that_was_not_measured_takes_what_surely_ends(self):
        found = chosen(UNMEASURED, allow_postcopy=True)
        assert (found["method"], found["verdict"]) == ("post-copy", "converges")
        alone = chosen(UNMEASURED)
        assert (alone["method"], alone["verdict"]) == ("pre-copy", "marginal")
        assert "not measured" in alone["reason"]
        assert (alone["total_s"]["value"], alone["total_s"]["high"]) == (None, None)

    def test_a_raise_beyond_what_is_accepted_is_none(self):
        # Measured or not: its likely downtime is above the cap, whatever the best case is.
        for guest in (UNMEASURED, EDGE):
            why = chosen(guest)["why_not"]["raise-downtime"]
            assert re.fullmatch(r"it keeps the guest down for .*, and 500 ms are accepted", why)


class TestIntent:
    def test_a_downtime_below_the_floor_is_refused(self):
        found = chosen(IDLE, max_downtime_ms=60)
        assert found["refusal"] == {
            "code": "cannot_keep_intent",
            "reason": "no method keeps the intent: plain pre-copy keeps the guest down for 81 ms, and 60 ms"
            " are accepted",
            "remedy": "permit allow_suspend (about 14 s, down 81 ms) or max_downtime_ms of at least 100, or give it a"
            " link of 32.4 MiB/s",
        }
        assert (found["method"], found["verdict"], found["total_s"]) == (None, "never", None)

    def test_a_deadline_is_held_against_the_worst_case(self):
        assert chosen(IDLE, deadline_s=15)["method"] == "pre-copy"
        found = chosen(CONVERGENT, deadline_s=15)
        assert found["why_not"]["pre-copy"] == "it takes 15.1 s, or 15.8 s at worst, and the deadline is 15 s"
        assert chosen(measured(fitted(), **PACKS), deadline_s=6)["method"] == "parallel-zstd"

    def test_of_what_may_never_end_the_least_is_held_against_the_deadline(self):
        """A guest so near the edge that nobody knows whether it ends: one pass alone takes longer than permitted."""
        edge = measured(fitted(16, 22), **WHOLE)
        assert chosen(edge, deadline_s=60)["total_s"] == {"value": None, "low": 15.736, "high": None}
        found = chosen(edge, deadline_s=15)
        assert found["method"] is None
        assert found["why_not"]["pre-copy"] == "it takes 15.7 s or more, and the deadline is 15 s"

    def test_a_slowdown_that_is_not_accepted_rules_out_what_causes_it(self):
        assert chosen(HOT, allow_postcopy=True, max_slowdown_pct=30)["method"] == "post-copy"
        found = chosen(HOT, allow_postcopy=True, max_slowdown_pct=5)
        assert found["method"] is None
        assert (
            found["why_not"]["post-copy"] == "it costs the guest 15 % of its work while it moves, and 5 % are accepted"
        )

    def test_a_throttle_that_freezes_the_guest_for_long_again_and_again_is_none(self):
        lazy = measured(fitted(64, 40), **{**WHOLE, "vcpu_utilisation": 0.045})
        assert "freezes the guest for" in chosen(lazy, max_downtime_ms=1000)["why_not"]["throttle"]
        busy = measured(fitted(64, 40), **{**WHOLE, "vcpu_utilisation": 0.5})
        assert chosen(busy, max_downtime_ms=1000)["method"] == "throttle"

    def test_a_cap_on_the_move_is_named_where_it_is_what_limits(self):
        wide = LINK.scaled(20)
        assert chosen(COLD, wide)["method"] == "pre-copy"
        found = chosen(COLD, wide, bandwidth_mib_s=10)
        assert re.search(r"raise bandwidth_mib_s to \d+, if the link gives it", found["refusal"]["remedy"])


GUESTS = {"idle": IDLE, "convergent": CONVERGENT, "edge": EDGE, "hot": HOT, "cold": COLD,
          "sparse": measured(fitted(64, 78), **SPARSE), "packs": measured(fitted(100, 60), **PACKS),
          "large": measured(fitted(200, 300), **{**WHOLE, "vcpu_utilisation": 0.9}),
          "unmeasured": UNMEASURED}  # fmt: skip
INTENTS = [
    {},
    {"max_downtime_ms": 1},
    {"max_downtime_ms": 60},
    {"max_downtime_ms": 60, "deadline_s": 5},
    {"deadline_s": 1},
    {"deadline_s": 14},
    {"deadline_s": 14, "allow_postcopy": True},
    {"max_slowdown_pct": 0},
    {"max_slowdown_pct": 3, "allow_postcopy": True, "allow_suspend": True},
    {"bandwidth_mib_s": 5, "deadline_s": 20},
    {"max_slowdown_pct": 1, "deadline_s": 9, "max_downtime_ms": 200},
]
GRID = list(itertools.product(GUESTS, INTENTS))
NAMES = [f"{name}-{','.join(f'{word}={value}' for word, value in intent.items())}" for name, intent in GRID]


def advice(remedy):
    """What a remedy advises: intents to add one by one, and the bandwidth."""
    options = [{name: True} for name in re.findall(r"(allow_\w+) \(about", remedy)]
    options += [{name: int(count)} for name, count in re.findall(r"(max_\w+|deadline_s) of at least (\d+)", remedy)]
    options += [{"bandwidth_mib_s": int(count)} for count in re.findall(r"bandwidth_mib_s to (\d+)", remedy)]
    links = [
        float(count) * MIB * {"M": 1, "G": 1024}[unit] for count, unit in re.findall(r"([\d.]+) (M|G)iB/s", remedy)
    ]
    return options, links


@functools.cache
def cell(number):
    """One guest under one intent, over a link that is wide where the intent caps the move."""
    name, intent = GRID[number]
    link = LINK.scaled(1000) if "bandwidth_mib_s" in intent else LINK
    return GUESTS[name], link, intent, chosen(GUESTS[name], link, **intent)


@pytest.mark.parametrize("number", range(len(GRID)), ids=NAMES)
class TestTexts:
    def test_what_is_advised_would_do(self, number):
        guest, link, intent, found = cell(number)
        if found["refusal"] is None:
            assert found["method"]
            return
        options, links = advice(found["refusal"]["remedy"])
        assert options or links or "less busy" in found["refusal"]["remedy"]
        for option in options:
            assert chosen(guest, link, **{**intent, **option})["method"], option
        for rate in links:
            assert rate > link.bandwidth_bytes_per_s
            assert chosen(guest, Link(rate), **intent)["method"], rate

    def test_people_can_read_them(self, number):
        found = cell(number)[-1]
        refused = found["refusal"] or {"reason": "", "remedy": ""}
        for text in (found["reason"], refused["reason"], *found["why_not"].values()):
            assert len(text) <= 180
            assert not re.search(r"None|nan|inf\b|\?|  |;.*;|\.$", text), text
        assert found["reason"].startswith(f"{found['method']}: " if found["method"] else "no method keeps")
        if found["method"] not in (None, "pre-copy"):
            assert "; plain pre-copy " in found["reason"]
        assert len(refused["remedy"]) <= 220

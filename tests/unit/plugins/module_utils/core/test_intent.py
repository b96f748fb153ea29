# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent
from ansible_collections.kvmops.cluster.plugins.module_utils.core.intent import IntentError


def test_nothing_said_is_the_defaults():
    assert intent.normalise({}) == intent.DEFAULTS == intent.normalise(None)
    assert intent.normalise({}) is not intent.DEFAULTS


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ({"max_downtime_ms": 200}, {"max_downtime_ms": 200}),
        ({"max_downtime_ms": " 200 "}, {"max_downtime_ms": 200}),
        ({"max_downtime_ms": 200.0}, {"max_downtime_ms": 200}),
        ({"max_downtime_ms": None}, {}),
        ({"max_downtime_ms": 2_000_000}, {"max_downtime_ms": 2_000_000}),
        ({"max_slowdown_pct": 0}, {"max_slowdown_pct": 0}),
        ({"max_slowdown_pct": None}, {"max_slowdown_pct": None}),
        ({"deadline_s": "none"}, {"deadline_s": None}),
        ({"deadline_s": ""}, {"deadline_s": None}),
        ({"bandwidth_mib_s": "null"}, {"bandwidth_mib_s": None}),
        ({"allow_postcopy": "yes", "allow_suspend": "False"}, {"allow_postcopy": True, "allow_suspend": False}),
        ({"allow_storage_copy": 1, "allow_shutdown": 0}, {"allow_storage_copy": True, "allow_shutdown": False}),
        ({"allow_postcopy": None}, {}),
        ({"encryption": "OFF"}, {"encryption": "off"}),
        ({"encryption": False}, {"encryption": "off"}),
        ({"encryption": None}, {}),
        ({"disks": "Lazy"}, {"disks": "lazy"}),
        ({"disks": None}, {}),
    ],
)
def test_values_are_understood_wherever_they_come_from(given, understood):
    assert intent.stated(given) == understood


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"max_downtime_ms": 0},
            "max_downtime_ms must be a whole number from 1 to 2000000 (milliseconds), not 0",
        ),
        (
            {"max_downtime_ms": "200ms"},
            "max_downtime_ms must be a whole number from 1 to 2000000 (milliseconds), not '200ms'",
        ),
        (
            {"max_downtime_ms": True},
            "max_downtime_ms must be a whole number from 1 to 2000000 (milliseconds), not True",
        ),
        (
            {"max_downtime_ms": 2_000_001},
            "max_downtime_ms must be a whole number from 1 to 2000000 (milliseconds), not 2000001",
        ),
        (
            {"max_downtime_ms": float("nan")},
            "max_downtime_ms must be a whole number from 1 to 2000000 (milliseconds), not nan",
        ),
        (
            {"max_slowdown_pct": 101},
            "max_slowdown_pct must be a whole number from 0 to 100 (per cent), or null for no limit, not 101",
        ),
        (
            {"deadline_s": -5},
            "deadline_s must be a whole number of at least 1 (seconds), or null for no limit, not -5",
        ),
        (
            {"bandwidth_mib_s": 1.5},
            (
                "bandwidth_mib_s must be a whole number from 1 to 8796093022207 (MiB per second), or null for no "
                "limit, not 1.5"
            ),
        ),
        ({"allow_postcopy": "maybe"}, "allow_postcopy must be true, false or recoverable, not 'maybe'"),
        ({"allow_postcopy": []}, "allow_postcopy must be true, false or recoverable, not []"),
        ({"allow_suspend": "recoverable"}, "allow_suspend must be true or false, not 'recoverable'"),
        ({"encryption": "tls"}, "encryption must be 'required' or 'off', not 'tls'"),
        ({"disks": "later"}, "disks must be 'copy', 'lazy' or 'delta', not 'later'"),
        ({"encryption": True}, "encryption must be 'required' or 'off', not True"),
        ({"max_downtime": 5}, "unknown intent 'max_downtime': did you mean max_downtime_ms?"),
        ("fast", "the intent must be a mapping of words to values, not 'fast'"),
        ({"encryption": "x" * 500}, "encryption must be 'required' or 'off', not '" + "x" * 56 + "..."),
    ],
)
def test_absurd_values_are_refused_in_words(given, text):
    with pytest.raises(IntentError) as caught:
        intent.stated(given)
    assert str(caught.value) == text
    assert caught.value.refusal["code"] == "intent"
    assert caught.value.refusal["reason"] == text


def test_an_unknown_word_like_no_other_gets_the_whole_list():
    with pytest.raises(IntentError, match=r"^unknown intent 'zzz': the words are max_downtime_ms, .*, disks$"):
        intent.stated({"zzz": 1})


def test_whose_intent_it_is_comes_first():
    with pytest.raises(IntentError, match=r"^guest web1: allow_postcopy must be"):
        intent.merge({}, {"allow_postcopy": "x"}, whose="guest web1")
    with pytest.raises(IntentError, match=r"^guest web1: unknown intent"):
        intent.merge({}, {"zzz": "x"}, whose="guest web1")


@pytest.mark.parametrize(
    ("run", "guest", "word", "wins"),
    [
        ({"max_downtime_ms": 300}, {"max_downtime_ms": 50}, "max_downtime_ms", 50),
        ({"max_downtime_ms": 300}, {"max_downtime_ms": 900}, "max_downtime_ms", 300),
        ({}, {"max_downtime_ms": 900}, "max_downtime_ms", 500),
        ({"max_downtime_ms": 300}, {}, "max_downtime_ms", 300),
        ({}, {}, "max_downtime_ms", 500),
        ({"deadline_s": 60}, {"deadline_s": None}, "deadline_s", 60),
        ({"deadline_s": None}, {"deadline_s": 30}, "deadline_s", 30),
        ({"max_slowdown_pct": 20}, {"max_slowdown_pct": 0}, "max_slowdown_pct", 0),
        ({"bandwidth_mib_s": 100}, {"bandwidth_mib_s": 900}, "bandwidth_mib_s", 100),
        ({"bandwidth_floor_mib_s": 10}, {"bandwidth_floor_mib_s": 90}, "bandwidth_floor_mib_s", 10),
        ({}, {"disks": "lazy"}, "disks", "copy"),
        ({"disks": "lazy"}, {"disks": "copy"}, "disks", "copy"),
        ({"allow_postcopy": False}, {"allow_postcopy": True}, "allow_postcopy", False),
        ({"allow_postcopy": True}, {"allow_postcopy": False}, "allow_postcopy", False),
        ({"allow_postcopy": True}, {}, "allow_postcopy", True),
        ({}, {"allow_postcopy": True}, "allow_postcopy", False),
        ({"allow_postcopy": True}, {"allow_postcopy": "recoverable"}, "allow_postcopy", "recoverable"),
        ({"allow_postcopy": "Recoverable"}, {"allow_postcopy": True}, "allow_postcopy", "recoverable"),
        ({"allow_postcopy": "recoverable"}, {"allow_postcopy": False}, "allow_postcopy", False),
        ({}, {"allow_postcopy": "recoverable"}, "allow_postcopy", False),
        ({}, {"allow_suspend": True}, "allow_suspend", False),
        # The consent of the owner, which concerns no other guest.
        ({}, {"allow_shutdown": True}, "allow_shutdown", True),
        ({"allow_shutdown": False}, {"allow_shutdown": True}, "allow_shutdown", False),
        ({"allow_storage_copy": False}, {"allow_storage_copy": "yes"}, "allow_storage_copy", False),
        ({}, {"allow_storage_copy": "yes"}, "allow_storage_copy", False),
        ({"allow_storage_copy": "yes"}, {}, "allow_storage_copy", True),
        ({"allow_storage_copy": True}, {"allow_storage_copy": True}, "allow_storage_copy", True),
        ({"allow_storage_copy": True}, {"allow_storage_copy": False}, "allow_storage_copy", False),
        # Whoever owns the guest, it cannot permit that itself.
        ({}, {"allow_managed": True}, "allow_managed", False),
        ({"allow_managed": True}, {}, "allow_managed", True),
        ({"allow_managed": True}, {"allow_managed": False}, "allow_managed", False),
        ({"encryption": "required"}, {"encryption": "off"}, "encryption", "required"),
        ({"encryption": "off"}, {"encryption": "required"}, "encryption", "required"),
        ({}, {"encryption": "off"}, "encryption", "required"),
    ],
)
def test_the_stricter_of_run_and_guest_wins(run, guest, word, wins):
    merged = intent.merge(run, guest)
    assert merged[word] == wins
    assert list(merged) == list(intent.DEFAULTS)


def test_what_a_guest_asks_for_in_vain_is_known():
    wanted = {"allow_postcopy": True, "allow_shutdown": True, "max_downtime_ms": 900, "encryption": "required"}
    assert intent.not_granted({}, wanted) == ["max_downtime_ms", "allow_postcopy"]
    assert intent.not_granted({"allow_postcopy": True, "max_downtime_ms": 900}, wanted) == []
    assert intent.not_granted({}, None) == []


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, []),
        ({"max_downtime_ms": 100, "deadline_s": 10, "bandwidth_mib_s": 5}, []),
        ({"max_downtime_ms": 501}, ["max_downtime_ms"]),
        ({"allow_postcopy": "recoverable"}, ["allow_postcopy"]),
        ({"allow_postcopy": True, "encryption": "off", "disks": "lazy"}, ["allow_postcopy", "encryption", "disks"]),
    ],
)
def test_what_permits_more_is_known(asked, words):
    assert intent.beyond(intent.normalise({}), intent.normalise(asked)) == words


def test_no_limit_is_more_than_a_limit():
    limited = intent.normalise({"deadline_s": 60, "bandwidth_mib_s": 5})
    assert intent.beyond(limited, intent.normalise({})) == ["deadline_s", "bandwidth_mib_s"]


def test_a_guest_is_not_sent_faster_than_is_permitted_by_way_of_the_floor():
    merged = intent.merge({"bandwidth_mib_s": 50}, {"bandwidth_floor_mib_s": 500})
    assert (merged["bandwidth_floor_mib_s"], merged["bandwidth_mib_s"]) == (50, 50)
    assert intent.not_granted({"bandwidth_mib_s": 50}, {"bandwidth_floor_mib_s": 500}) == ["bandwidth_floor_mib_s"]
    assert intent.merge({"bandwidth_floor_mib_s": 100}, {"bandwidth_mib_s": 50})["bandwidth_floor_mib_s"] == 50


@pytest.mark.parametrize(
    ("permitted", "floor", "told"),
    [
        ({"bandwidth_mib_s": 50}, 500, ["bandwidth_floor_mib_s"]),
        ({"bandwidth_mib_s": 50}, 50, []),
        ({}, 500, []),
        # The operator's own floor is above the cap.
        ({"bandwidth_mib_s": 50, "bandwidth_floor_mib_s": 60}, 60, []),
    ],
)
def test_a_floor_above_the_permitted_rate_is_beyond_it(permitted, floor, told):
    asked = {**permitted, "bandwidth_floor_mib_s": floor}
    assert intent.beyond(intent.normalise(permitted), intent.normalise(asked)) == told

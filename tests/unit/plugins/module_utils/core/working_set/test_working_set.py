# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import document_shapes, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.page_sampling import (
    MeasurementError,
    Reading,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.touched import Touched, touched
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.working_set import (
    curve_of,
    unmeasured,
    unusual,
    working_set,
)

MIB = 1024**2
MEMORY = 1024 * MIB
GUEST = {"name": "db1", "uuid": "11111111-2222-3333-4444-555555555555"}


def made(write, windows=(0.1, 0.3, 1.0, 2.0, 5.0), **more):
    """The document of a guest that dirties so many MiB in a window."""
    readings = [Reading(window, int(write(window) / window), 16384) for window in windows for dummy in range(3)]
    known = {"guest": GUEST, "taken_at": "2026-11-24T02:00:00Z", "method": "qmp", "samples_per_gib": 16384,
             "memory_bytes": MEMORY, "touched": Touched(500 * MIB, "balloon", 0.02), "readings": readings}  # fmt: skip
    return working_set(**{**known, **more})


def hot(size, fill, cold=0.0):
    return lambda window: min(size, size * window / fill) + cold * window


class TestSentence:
    @pytest.mark.parametrize(
        ("write", "words"),
        [
            (hot(64, 0.4), "rewrites 64 MiB within 0.4 s"),
            (hot(64, 0.4, 8), "rewrites 6"),
            (lambda window: 0.3, "nearly idle"),
            (lambda window: 40 * window, "writes 40"),
        ],
    )
    def test_says_what_the_guest_does(self, write, words):
        assert made(write)["sentence"].startswith(words)

    def test_a_stream_beyond_the_hot_set_is_told(self):
        assert made(hot(64, 0.4, 8))["sentence"].endswith("MiB/s beyond")

    def test_a_fill_time_that_is_a_guess_is_called_so(self):
        assert "about" in made(hot(64, 0.1), windows=(1.0, 2.0, 5.0))["sentence"]

    def test_nothing_measured(self):
        document = unmeasured(
            guest=GUEST, taken_at="2026-11-24T02:00:00Z", memory_bytes=MEMORY, touched=touched(None, MEMORY)
        )
        assert (document["points"], document["fit"], document["sentence"]) == ([], None, "not measured")


class TestDocument:
    def test_is_plain_and_comes_back_as_the_same_curve(self):
        document = made(hot(64, 0.4))
        again = json.loads(json.dumps(document))
        assert again == document
        assert curve_of(again).value(0.2) == pytest.approx(32 * MIB, rel=0.1)

    def test_what_was_not_seen_is_null(self):
        shares = ("vcpu_utilisation", "compressed_share", "hot_compressed_share", "sparse")
        assert {made(hot(64, 0.4))[name] for name in shares} == {None}
        assert [made(hot(64, 0.4), **{name: 0.3})[name] for name in shares] == [0.3] * 4

    def test_one_window_has_no_fit_but_can_be_read(self):
        document = made(hot(64, 0.4), windows=(1.0,))
        assert document["fit"] is None
        assert curve_of(document).value(0.5) == pytest.approx(32 * MIB, rel=0.1)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"method": "dirty-ring"},
            {"touched": Touched(2 * MEMORY, "balloon", 0.02)},
            {"vcpu_utilisation": -0.1},
            {"compressed_share": 7.0},
            {"hot_compressed_share": -0.2},
            {"sparse": float("nan")},
            {"memory_bytes": 0},
        ],
    )
    def test_what_cannot_be(self, wrong):
        with pytest.raises(MeasurementError):
            made(hot(64, 0.4), **wrong)


class TestUnusual:
    def test_as_ever(self):
        history = [made(hot(64, 0.4))] * 5
        assert unusual(made(hot(66, 0.4)), history) is None

    def test_more_and_less_than_usual(self):
        history = [made(hot(64, 0.4))] * 5
        assert made(hot(200, 0.4), history=history)["unusual"].startswith("dirties more than usual: ")
        assert made(lambda window: 0.3, history=history)["unusual"].startswith("dirties less than usual: ")

    def test_a_guest_that_always_changes_is_not_unusual(self):
        history = [made(hot(size, 0.4)) for size in (20, 60, 100, 180, 250)]
        assert unusual(made(hot(230, 0.4)), history) is None

    def test_a_trifle_is_not_unusual(self):
        assert unusual(made(lambda window: 2.0), [made(lambda window: 0.3)] * 5) is None

    def test_two_looks_make_no_usual(self):
        assert unusual(made(hot(200, 0.4)), [made(hot(64, 0.4))] * 2) is None


class TestTouched:
    def test_the_guests_own_figures(self):
        found = touched(
            {"current_bytes": 384 * MIB, "unused_bytes": 219744 * 1024, "rss_bytes": None, "age_s": 1}, 384 * MIB
        )
        assert (found.how, found.error) == ("balloon", 0.02)
        assert found.bytes / MIB == pytest.approx(169.4, abs=0.1)

    def test_old_figures_are_less_sure(self):
        old = {"current_bytes": 384 * MIB, "unused_bytes": 200 * MIB, "rss_bytes": None, "age_s": 3600}
        assert touched(old, 384 * MIB).error > 0.02
        assert touched({**old, "age_s": None}, 384 * MIB).error > 0.02

    def test_no_balloon_driver(self):
        only = {"current_bytes": 384 * MIB, "unused_bytes": None, "rss_bytes": 304212 * 1024, "age_s": None}
        found = touched(only, 384 * MIB)
        assert found.how == "rss"
        assert found.bytes * (1 - 2 * found.error) < 169 * MIB < found.bytes * (1 + 2 * found.error)

    @pytest.mark.parametrize("balloon", [None, {}, {"unused_bytes": 999 * MIB, "current_bytes": 10 * MIB}])
    def test_nothing_known(self, balloon):
        assert touched(balloon, 384 * MIB).how == "memory"

    def test_no_memory(self):
        with pytest.raises(ValueError, match="memory"):
            touched({}, 0)


class TestReadingADocument:
    def test_what_a_later_version_knows_of_a_fit_is_let_pass(self):
        document = made(hot(64, 0.4))
        later = {**document, "fit": {**document["fit"], "tail_s": 3}}
        assert curve_of(later).value(1.0) == curve_of(document).value(1.0)

    @pytest.mark.parametrize(
        ("window_s", "told"),
        [(0, "points must have windows above 0"), (0.1, "points must have one point for each window")],
    )
    def test_two_points_of_one_window_or_of_none_are_no_curve(self, window_s, told):
        document = made(hot(64, 0.4))
        document_shapes.WORKING_SET(document, "")
        broken = {**document, "points": [*document["points"], {**document["points"][0], "window_s": window_s}]}
        with pytest.raises(shape.ShapeError, match=told):
            document_shapes.WORKING_SET(broken, "")

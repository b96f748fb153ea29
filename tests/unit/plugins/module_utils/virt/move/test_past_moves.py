# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.observation import Observation
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import Sample
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.appraisal import Knowledge, appraise
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import Path, decide
from ansible_collections.kvmops.cluster.plugins.module_utils.run import history
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.guest_state import Endpoint
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.ending import MigrationEnding
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move import past_moves
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.settings import Settings, settings_of
from ansible_collections.kvmops.cluster.tests.unit.working_sets import MIB, fitted, measured

B = 23_940_000
UUID = "11111111-2222-3333-4444-555555555555"
IDLE = measured(fitted(), memory=512, touched=110, compressed_share=1.0, sparse=1.0)
SPARSE = measured(fitted(64, 78), memory=512, touched=110, compressed_share=1.0, sparse=0.01)
DOMAIN = {"name": "db1", "uuid": UUID, "memory_bytes": 512 * MIB}
HOST = {"host": "h1", "versions": {"libvirt": "11.3.0", "qemu": "10.0.2"}}


@pytest.fixture
def settings(tmp_path):
    def made(here=None, there=None):
        ends = {name: {"connect_uri": "qemu+ssh://root@h2/system", "bandwidth_mib_s": rate}
                for name, rate in (("h1", here), ("h2", there))}  # fmt: skip
        return Settings(Endpoint("h1", "qemu:///system"), str(tmp_path), ends, 0, 1)

    return made


def step(**intent):
    wanted = intents.normalise({"encryption": "off", **intent})
    return {"id": "s001", "guest": {"name": "db1", "uuid": UUID}, "source": "h1", "destination": "h2", "intent": wanted}


def ended(*, rate=B, first_pass=115 * MIB, down_ms=95, last=1 * MIB, **more):
    """A move that was watched: the first pass, one more round, and the end."""
    statistics = {"downtime": down_ms, "memory_normal_bytes": 118 * MIB, "memory_processed": 120 * MIB}
    ending = MigrationEnding(after_s=0.3, statistics=statistics, **more)
    seconds = first_pass / rate
    for at_s, iteration, left, sent in (
        (0.4, 1, first_pass, 0.1 * rate),
        (0.3 + seconds, 2, 3 * MIB, first_pass),
        (0.4 + seconds, 3, last, first_pass + 0.1 * rate),
    ):
        ending.observation.add(Sample(at_s, iteration, int(left), int(sent), int(rate)))
    return ending


def learn(settings, working_set=IDLE, ending=None, disks=(), known=None, planned=None, **intent):
    """Move a guest as it was appraised, and learn from it; returns what is kept of the path and of the guest."""
    one = {**step(**intent), **(planned or {})}
    known = known or Knowledge(working_set, stated_bytes_per_s=B)
    appraised = appraise(DOMAIN, HOST, HOST, one["intent"], known)
    made = decide(
        one["intent"], Path("qemu+ssh://root@h2/system"), appraised.choice, persistent=True, disks_to_copy=disks
    )
    past_moves.calibrate(settings, one, appraised, made, ending or ended())
    kept = [history.calibration(settings.state_dir, kind, key) for kind, key in (("path", "h2"), ("guest", UUID))]
    return [{name: entry["mean"] for name, entry in (state or {"learned": {}})["learned"].items()} for state in kept]


class TestRecall:
    def test_of_nothing_nothing(self, settings):
        assert past_moves.load(settings(), step()) == Knowledge()

    def test_the_newest_measurement_and_what_moves_have_taught(self, settings):
        where = settings(there=20).state_dir
        for at in ("2026-11-23T02:00:00Z", "2026-11-24T02:00:00Z"):
            history.add_measurement(where, UUID, {**IDLE, "taken_at": at})
        history.keep_calibration(where, "path", "h2", {"kind": "path"})
        history.keep_calibration(where, "path", "h3", {"kind": "another"})
        history.keep_calibration(where, "guest", UUID, {"kind": "guest"})
        found = past_moves.load(settings(there=20), step())
        assert found.working_set["taken_at"] == "2026-11-24T02:00:00Z"
        assert (found.path, found.guest, found.stated_bytes_per_s) == ({"kind": "path"}, {"kind": "guest"}, 20 * MIB)
        assert {"kind": "another"} in found.other_paths

    @pytest.mark.parametrize(
        ("here", "there", "stated"),
        [(None, None, None), (100, None, 100), (None, 50, 50), (100, 50, 50), (20.5, 50, 20.5), (0, 50, 50)],
    )
    def test_the_slower_end_decides(self, settings, here, there, stated):
        found = past_moves.load(settings(here, there), step()).stated_bytes_per_s
        assert found == (None if stated is None else stated * MIB)

    @pytest.mark.parametrize(("how", "left"), [("balloon", 110), ("rss", 70), ("memory", 70)])
    def test_memory_that_was_freed_is_left_out_once(self, settings, how, left):
        where = settings().state_dir
        history.add_measurement(where, UUID, {**IDLE, "touched_how": how})
        found = past_moves.load(settings(), step(), freed_bytes=40 * MIB)
        assert found.working_set["touched_bytes"] == left * MIB

    def test_a_host_that_nobody_knows(self, settings):
        assert past_moves.load(settings(), {**step(), "destination": "h9"}).stated_bytes_per_s is None

    def test_moves_at_once_share_the_path_as_planned_or_as_this_host_sends(self, settings):
        four = dataclasses.replace(settings(), at_once=4)
        assert past_moves.load(settings(), step()).at_once == 1
        assert past_moves.load(four, step()).at_once == 4
        assert past_moves.load(four, {**step(), "forecast": {"at_once": 2}}).at_once == 4
        assert past_moves.load(settings(), {**step(), "forecast": {"at_once": 2}}).at_once == 2
        assert past_moves.load(settings(), {**step(), "forecast": {"method": "pre-copy"}}).at_once == 1
        assert past_moves.load(settings(), {**step(), "forecast": None}).at_once == 1

    @pytest.mark.parametrize(
        ("window", "incoming_limit", "targets", "at_once"),
        [(1, 1, ["h2", "h3"], 1), (4, 1, ["h2", "h3"], 2), (4, 1, ["h2", "h2", "h2"], 1), (4, 2, ["h2"] * 9, 2),
         (4, 9, ["h2", "h2", "h3"], 3), (4, 9, ["h2"] * 9, 4), (4, 9, [], 1)],
    )  # fmt: skip
    def test_a_host_sends_as_many_as_are_there_and_let_in(self, window, incoming_limit, targets, at_once):
        parameters = {"uri": "qemu:///system", "state_dir": "/", "reserve_mib": 0, "tune_network": False,
                      "window": window, "incoming_limit": incoming_limit}  # fmt: skip
        found = settings_of(parameters, "h1", {}, steps=[{"destination": target} for target in targets])
        assert found.at_once == at_once


class TestLearn:
    def test_a_plain_move_teaches_about_path_and_guest(self, settings):
        path, guest = learn(settings(), ending=ended(rate=0.9 * B))
        assert 0.9 * B <= path["bandwidth_bytes_per_s"] < B
        assert {"before_s", "after_s", "queue_bytes", "overhead"} <= set(path)
        assert 1.0 < guest["told_factor"] < 115 / 110

    def test_a_move_that_had_company_teaches_nothing_of_the_link(self, settings):
        for known in (None, Knowledge(), Knowledge(IDLE, stated_bytes_per_s=B, at_once=4)):
            path, guest = learn(settings(), known=known, ending=ended(rate=B / 4, shared_link=True))
            assert not {"bandwidth_bytes_per_s", "queue_bytes", "fixed_s"} & set(path)
            assert {"before_s", "after_s"} <= set(path)
            assert "told_factor" in guest

    def test_one_that_was_to_share_it_and_had_it_alone_teaches_the_whole_of_it(self, settings):
        path, _guest = learn(
            dataclasses.replace(settings(), at_once=4),
            known=Knowledge(IDLE, stated_bytes_per_s=B, at_once=4),
            ending=ended(rate=0.9 * B),
        )
        assert 0.9 * B <= path["bandwidth_bytes_per_s"] < B
        assert not {"queue_bytes", "fixed_s"} & set(path)

    def test_what_other_hosts_send_is_seen_by_the_plan_alone(self, settings):
        planned = {"forecast": {"at_once": 3}}
        assert "bandwidth_bytes_per_s" not in learn(settings(), planned=planned)[0]
        assert "bandwidth_bytes_per_s" in learn(dataclasses.replace(settings(), at_once=3), planned=planned)[0]

    def test_what_was_learned_is_known_to_the_next(self, settings):
        history.add_measurement(settings().state_dir, UUID, IDLE)
        known = dataclasses.replace(past_moves.load(settings(), step()), stated_bytes_per_s=B)
        for dummy in range(12):
            path, _guest = learn(settings(), known=known, ending=ended(rate=0.5 * B))
            known = past_moves.load(settings(), step())
        found = appraise(DOMAIN, HOST, HOST, step()["intent"], known)
        assert found.link.bandwidth_bytes_per_s == path["bandwidth_bytes_per_s"] == pytest.approx(0.5 * B, rel=0.1)
        assert found.guest_factor == pytest.approx(115 / 110, rel=0.03)

    def test_the_set_up_of_a_path_that_nobody_knew_is_known_before_the_move_has_ended(self, settings):
        def set_up_learned(at_s):
            appraised = appraise(DOMAIN, HOST, HOST, step()["intent"], Knowledge(IDLE, stated_bytes_per_s=B))
            observation = Observation()
            observation.add(Sample(at_s, 1, 100 * MIB, 1, 0))
            past_moves.calibrate_set_up(settings(), step(), appraised, observation)
            return history.calibration(settings().state_dir, "path", "h2")

        first = set_up_learned(1.2)
        assert first["learned"]["before_s"]["mean"] == pytest.approx(1.2, rel=0.2)
        assert set_up_learned(9.0) == first

    def test_a_path_that_nobody_knew_is_known_by_its_rate(self, settings):
        path, _guest = learn(settings(), known=Knowledge())
        assert path["bandwidth_bytes_per_s"] == pytest.approx(B, rel=0.01)

    def test_a_move_that_was_too_short_on_a_path_that_nobody_knew_teaches_nothing(self, settings):
        assert learn(settings(), known=Knowledge(), ending=MigrationEnding()) == [{}, {}]

    def test_a_cap_hides_the_link_and_its_switchover(self, settings):
        path, guest = learn(settings(), ending=ended(rate=5 * MIB), bandwidth_mib_s=5)
        assert not {"bandwidth_bytes_per_s", "queue_bytes", "fixed_s"} & set(path)
        assert guest["told_factor"] > 1

    @pytest.mark.parametrize("more", [{"postcopy": True}, {"suspended": True}])
    def test_a_downtime_of_another_kind_says_nothing_of_the_switchover(self, settings, more):
        path, _guest = learn(settings(), ending=ended(**more))
        assert not {"queue_bytes", "fixed_s"} & set(path)
        assert "bandwidth_bytes_per_s" in path

    def test_disks_hide_how_much_memory_the_first_pass_sends(self, settings):
        path, guest = learn(settings(), disks=[{"target": "vda"}])
        assert "before_s" in path
        assert "told_factor" not in guest or guest["told_factor"] == pytest.approx(1.0, abs=0.1)

    def test_what_is_not_sent_page_by_page_says_nothing_of_overhead(self, settings):
        path, _guest = learn(settings(), working_set=SPARSE)
        assert "overhead" not in path
        assert "bandwidth_bytes_per_s" in path

    @pytest.mark.parametrize(("share", "believed"), [(1.1, True), (0.85, True), (0.5, False)])
    def test_a_compressed_move_tells_the_rate_of_the_link_where_it_came_near_it(self, settings, share, believed):
        path, _guest = learn(settings(), working_set=SPARSE, ending=ended(rate=share * B))
        assert ("bandwidth_bytes_per_s" in path) == believed

    def test_a_host_without_room_for_it_moves_its_guests_all_the_same(self, settings, monkeypatch):
        def full(*_arguments):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(history, "keep_calibration", full)
        assert learn(settings()) == [{}, {}]

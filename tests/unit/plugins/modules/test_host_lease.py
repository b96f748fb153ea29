# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest

from ansible_collections.kvmops.cluster.plugins.modules import host_lease
from ansible_collections.kvmops.cluster.tests.unit import hostile


class World:
    def __init__(self, run_module, path):
        self.state_dir = path / "state"
        self._run = run_module

    def ask(self, owner="alice@admin1", run="drain-h1", **arguments):
        return self._run(host_lease, owner=owner, run=run, name="h1", state_dir=str(self.state_dir), **arguments)

    @property
    def file(self):
        return json.loads((self.state_dir / "lease.json").read_text())


@pytest.fixture
def world(run_module, tmp_path):
    return World(run_module, tmp_path)


def test_a_lease_is_taken_renewed_and_given_back(world):
    taken = world.ask(purpose="drain h1", hosts=["h1", "h2"], diff=True)
    assert taken["changed"]
    assert taken["lease"] == world.file == taken["diff"]["after"]
    assert (taken["fence"], taken["lease"]["hosts"]) == (world.file["fence"], ["h1", "h2"])
    again = world.ask(hosts=["h1", "h2"], ttl_s=900)
    assert (again["changed"], again["fence"]) == (False, taken["fence"])
    assert again["lease"]["expires_at"] == world.file["expires_at"] > taken["lease"]["expires_at"]
    back = world.ask(state="absent", diff=True)
    assert (back["changed"], back["fence"], back["lease"]["owner"]) == (True, None, None)
    assert back["diff"]["before"]["owner"] == "alice@admin1"
    assert not world.ask(state="absent")["changed"]


def test_the_second_is_told_who_has_it_since_when_until_when_and_what_for(world):
    lease = world.ask(purpose="drain h1")["lease"]
    refused = world.ask(owner="bob@admin2", run="rebalance-7")
    assert refused["failed"]
    assert refused["lease"] == lease
    assert refused["refusal"]["code"] == "lease_held"
    assert refused["msg"] == (
        f"h1 is taken by alice@admin1 for run drain-h1 (drain h1) since {lease['since']}, until {lease['expires_at']}"
        " unless it is renewed: wait for the end of that run (wait_s waits), or ask alice@admin1; if the run is dead,"
        " its lease ends by itself, or take it over with force=true"
    )


def test_check_mode_writes_nothing_and_foretells_no_number(world):
    foretold = world.ask(check=True)
    assert (foretold["changed"], foretold["fence"], foretold["lease"]["owner"]) == (True, None, "alice@admin1")
    assert not world.state_dir.exists()
    taken = world.ask()
    assert world.ask(check=True)["fence"] == taken["fence"]
    assert world.ask(owner="bob@admin2", check=True, wait_s=600)["refusal"]["code"] == "lease_held"
    assert world.ask(state="absent", check=True)["changed"]
    assert world.file == taken["lease"]


def test_one_that_somebody_else_has_is_not_given_back_for_them(world):
    lease = world.ask()["lease"]
    left = world.ask(owner="bob@admin2", state="absent")
    assert (left["changed"], left["lease"]) == (False, lease)
    broken = world.ask(owner="bob@admin2", state="absent", force=True)
    assert (broken["changed"], broken["fence"]) == (True, None)
    assert world.file["owner"] is None
    assert world.file["fence"] > lease["fence"]
    assert not world.ask(owner="bob@admin2", state="absent", force=True)["changed"]


def test_a_dead_run_is_taken_over_by_its_name_and_no_other_is(world):
    world.ask(run="rolling_upgrade-1")
    assert world.ask(run="rolling_upgrade-2", takes_over=["rolling_upgrade-0"])["refusal"]["code"] == "lease_held"
    taken = world.ask(run="rolling_upgrade-2", takes_over=["rolling_upgrade-0", "rolling_upgrade-1"])
    assert (taken["changed"], world.file["run"]) == (True, "rolling_upgrade-2")


def test_a_lease_that_went_to_somebody_else_is_not_renewed(world):
    mine = world.ask()["fence"]
    world.ask(owner="bob@admin2", force=True)
    refused = world.ask(fence=mine)
    assert refused["refusal"]["code"] == "lease_lost"
    assert refused["lease"]["owner"] == "bob@admin2"


def test_garbage_is_told_and_can_be_broken(world):
    world.state_dir.mkdir()
    (world.state_dir / "lease.json").write_text("garbage")
    refused = world.ask()
    assert refused["refusal"]["code"] == "lease_damaged"
    assert "lease" not in refused
    assert refused["msg"].endswith("then break the lease with host_lease and force=true")
    broken = world.ask(state="absent", force=True)
    assert broken["changed"]
    assert world.file["owner"] is None
    assert world.ask()["changed"]


@pytest.mark.parametrize("state", ["held", "absent"])
@pytest.mark.parametrize("kind", list(hostile.IN_THE_PLACE_OF_A_FILE))
def test_whatever_is_in_its_place_counts_as_taken_and_can_be_broken(world, kind, state):
    world.state_dir.mkdir()
    hostile.IN_THE_PLACE_OF_A_FILE[kind](world.state_dir / "lease.json")
    for refused in (world.ask(), world.ask(state="absent"), world.ask(check=True)):
        assert refused["refusal"]["code"] == "lease_damaged"
        assert refused["msg"].endswith("then break the lease with host_lease and force=true")
    assert world.ask(state=state, force=True, check=True)["changed"]
    assert world.ask()["refusal"]["code"] == "lease_damaged"
    assert world.ask(state=state, force=True)["changed"]
    assert world.file["owner"] == ("alice@admin1" if state == "held" else None)
    assert not (world.state_dir / "lease.json").is_symlink()
    assert not world.ask(state=state)["changed"]
    if kind == "a folder":
        assert (world.state_dir / "lease.json.aside-1" / "somebody's").read_text() == "work"


def test_a_link_in_the_place_of_the_new_file_leads_nowhere(world, tmp_path):
    world.state_dir.mkdir()
    (tmp_path / "precious").write_text("precious")
    (world.state_dir / "lease.json.new").symlink_to(tmp_path / "precious")
    assert world.ask()["changed"]
    assert (tmp_path / "precious").read_text() == "precious"
    assert world.file["owner"] == "alice@admin1"

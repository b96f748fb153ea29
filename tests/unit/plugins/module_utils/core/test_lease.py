# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import datetime
import json

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import lease as leases
from ansible_collections.kvmops.cluster.plugins.module_utils.core.lease import FREE, Claim, LeaseError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.lease_clock import Moment

NOON = Moment(datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc), "boot-1", 5000.0)
ALICE = Claim("h1", "alice@admin1", "drain-h1", "drain h1, ticket 4711", ttl_s=600, hosts=("h1", "h2"))
BOB = Claim("h1", "bob@admin2", "rebalance-7", ttl_s=600)


def after(seconds, boot_id="boot-1", *, clock_s=0):
    """So many seconds later, with a clock that was set forward or back by C(clock_s) meanwhile."""
    return Moment(NOON.wall + datetime.timedelta(seconds=seconds + clock_s), boot_id, NOON.uptime_s + seconds)


def test_a_free_host_is_taken():
    assert leases.take(FREE, ALICE, NOON) == {
        "schema": "kvmops.lease/1",
        "owner": "alice@admin1",
        "run": "drain-h1",
        "purpose": "drain h1, ticket 4711",
        "since": "2026-11-24T12:00:00.000Z",
        "expires_at": "2026-11-24T12:10:00.000Z",
        "ttl_s": 600,
        "boot_id": "boot-1",
        "expires_uptime_s": 5600.0,
        "fence": int(NOON.wall.timestamp()),
        "hosts": ["h1", "h2"],
    }


@pytest.mark.parametrize("other", [BOB, ALICE._replace(owner="bob@admin2"), ALICE._replace(run="drain-h1-again")])
def test_whoever_comes_second_is_told_who_has_it(other):
    held = leases.take(FREE, ALICE, NOON)
    with pytest.raises(LeaseError) as refused:
        leases.take(held, other, after(599))
    assert refused.value.lease == held
    assert refused.value.refusal == {
        "code": "lease_held",
        "reason": "h1 is taken by alice@admin1 for run drain-h1 (drain h1, ticket 4711) since 2026-11-24T12:00:00.000Z,"
        " until 2026-11-24T12:10:00.000Z unless it is renewed",
        "remedy": "wait for the end of that run (wait_s waits), or ask alice@admin1; if the run is dead, its lease ends"
        " by itself, or take it over with force=true",
    }


def test_the_lease_of_a_run_that_is_known_to_be_dead_is_taken_at_once_with_a_new_number():
    held = leases.take(FREE, ALICE, NOON)
    taken = leases.take(held, BOB._replace(takes_over=("old", "drain-h1")), after(1))
    assert (taken["run"], taken["fence"]) == ("rebalance-7", held["fence"] + 1)
    assert leases.start_refusal(taken, held["fence"], "h1")["code"] == "lease_lost"


def test_the_lease_of_another_run_than_the_dead_one_is_not_taken():
    held = leases.take(FREE, ALICE, NOON)
    with pytest.raises(LeaseError) as refused:
        leases.take(held, BOB._replace(takes_over=("drain-h2",)), after(1))
    assert refused.value.refusal["code"] == "lease_held"


def test_a_dead_owners_lease_ends():
    held = leases.take(FREE, ALICE, NOON)
    taken = leases.take(held, BOB, after(600))
    assert (taken["owner"], taken["purpose"], taken["hosts"]) == ("bob@admin2", None, ["h1"])
    assert taken["fence"] > held["fence"]


def test_the_same_run_again_has_it_for_longer():
    held = leases.take(FREE, ALICE, NOON)
    again = leases.take(held, ALICE._replace(purpose=None, hosts=(), ttl_s=60), after(300))
    assert again == {**held, "ttl_s": 60, "expires_at": "2026-11-24T12:06:00.000Z", "expires_uptime_s": 5360.0}


def test_a_run_that_was_late_but_met_nobody_has_the_same_lease():
    held = leases.take(FREE, ALICE, NOON)
    again = leases.take(held, ALICE, after(10_000))
    assert (again["fence"], again["since"]) == (held["fence"], held["since"])


def test_force_takes_it_over_and_fences_the_other_off():
    held = leases.take(FREE, ALICE, NOON)
    taken = leases.take(held, BOB._replace(force=True), after(1))
    assert leases.start_refusal(taken, taken["fence"], "h1") is None
    assert leases.start_refusal(taken, held["fence"], "h1") == {
        "code": "lease_lost",
        "reason": f"the lease with fencing number {held['fence']} is no longer valid: h1 was taken over by bob@admin2"
        " for run rebalance-7 since 2026-11-24T12:00:01.000Z",
        "remedy": "start nothing with it; run the playbook again: it takes the host again and makes a new plan",
    }


def test_a_late_writer_is_barred_after_the_other_has_gone_too():
    held = leases.take(FREE, ALICE, NOON)
    gone = leases.release(leases.take(held, BOB, after(700)), BOB, after(701))
    why = leases.start_refusal(gone, held["fence"], "h1")
    assert why["reason"].endswith("h1 was taken over by another run, which has ended, or its lease was broken")


def test_one_who_gave_it_back_may_go_on_until_somebody_else_comes():
    held = leases.take(FREE, ALICE, NOON)
    assert leases.start_refusal(leases.release(held, ALICE, NOON), held["fence"], "h1") is None


def test_a_fence_that_the_host_never_gave_does_not_count():
    assert leases.start_refusal(FREE, 7, "h1")["reason"].endswith("there is no such lease on h1")


def test_a_renewal_takes_no_new_lease():
    held = leases.take(FREE, ALICE, NOON)
    mine = ALICE._replace(fence=held["fence"])
    assert leases.take(held, mine, after(60))["fence"] == held["fence"]
    for lost, words in (
        (leases.take(held, BOB._replace(force=True), after(60)), "taken over by bob@admin2"),
        (leases.release(held, ALICE, NOON), "no longer taken by this run"),
        (FREE, "no such lease on h1"),
    ):
        with pytest.raises(LeaseError, match=words) as refused:
            leases.take(lost, mine, after(120))
        assert refused.value.refusal["code"] == "lease_lost"


def test_what_keeps_a_lease_moves_its_end_and_nothing_else():
    held = leases.take(FREE, ALICE, NOON)
    longer = {**held, "expires_at": "2026-11-24T12:11:00.000Z", "expires_uptime_s": 5660.0}
    assert leases.renew(held, held["fence"], after(60)) == longer
    gone = leases.release(held, ALICE, NOON)
    assert leases.renew(gone, held["fence"], after(60)) == gone
    taken = leases.take(held, BOB, after(700))
    assert leases.renew(taken, held["fence"], after(701)) == taken


YEARS_S = 10 * 365 * 86400
#: As leases were written before they had a boot.
OLD = {
    key: value for key, value in leases.take(FREE, ALICE, NOON).items() if key not in ("boot_id", "expires_uptime_s")
}


def is_held(lease, now):
    try:
        leases.take(lease, BOB, now)
    except LeaseError as error:
        return error.refusal["code"] == "lease_held"
    return False


@pytest.mark.parametrize("clock_s", [-YEARS_S, -3600, 0, 3600, YEARS_S])
def test_in_one_boot_a_clock_that_is_set_changes_no_lease(clock_s):
    held = leases.take(FREE, ALICE, NOON)
    assert is_held(held, after(599, clock_s=clock_s))
    assert not is_held(held, after(600, clock_s=clock_s))
    assert leases.bound(held, after(60, clock_s=clock_s)) == held


def test_a_lease_that_was_renewed_while_the_clock_was_far_ahead_ends_in_time():
    held = leases.take(FREE, ALICE, NOON)
    held = leases.renew(held, held["fence"], after(60, clock_s=YEARS_S))
    assert is_held(held, after(659))
    assert not is_held(held, after(660))


def test_after_a_reboot_the_clock_counts():
    held = leases.take(FREE, ALICE, NOON)
    # The uptime of another boot says nothing.
    rebooted = Moment(after(599).wall, "boot-2", 9.0)
    assert is_held(held, rebooted)
    assert not is_held(held, rebooted._replace(wall=after(600).wall))
    assert leases.bound(held, rebooted) == {**held, "boot_id": "boot-2", "expires_uptime_s": 10.0}


@pytest.mark.parametrize("boot_id", ["boot-2", None])
def test_after_a_reboot_a_lease_of_a_clock_that_was_years_ahead_lasts_no_longer_than_it_was_taken_for(boot_id):
    ahead = leases.take(FREE, ALICE, after(0, clock_s=YEARS_S))
    now = Moment(NOON.wall, boot_id, 9.0)
    bound = leases.bound(ahead, now)
    assert bound["expires_at"] == "2026-11-24T12:10:00.000Z"
    assert leases.bound(bound, now._replace(wall=after(60).wall, uptime_s=69.0)) == bound
    assert is_held(bound, now._replace(wall=after(599).wall, uptime_s=608.0))
    assert not is_held(bound, now._replace(wall=after(600).wall, uptime_s=609.0))


def test_a_lease_that_begins_in_the_future_says_so():
    ahead = leases.take(FREE, ALICE, after(0, clock_s=YEARS_S))
    now = Moment(NOON.wall, "boot-2", 9.0)
    with pytest.raises(LeaseError) as refused:
        leases.take(leases.bound(ahead, now), BOB, now)
    assert refused.value.refusal["reason"] == (
        "h1 is taken by alice@admin1 for run drain-h1 (drain h1, ticket 4711) since 2036-11-21T12:00:00.000Z,"
        " until 2026-11-24T12:10:00.000Z unless it is renewed; it was taken at a time that is still to come, so the"
        " clock of h1 was wrong then or is wrong now"
    )


def test_the_end_is_told_by_the_clock_as_it_is_now():
    held = leases.take(FREE, ALICE, NOON)
    with pytest.raises(LeaseError, match=r"until 2026-11-24T13:10:00\.000Z unless"):
        leases.take(held, BOB, after(60, clock_s=3600))


@pytest.mark.parametrize("clock_s", [0, YEARS_S])
def test_a_lease_of_an_older_version_is_read_and_bound_to_this_boot(clock_s):
    old = {**OLD, "expires_at": leases.take(FREE, ALICE, after(0, clock_s=clock_s))["expires_at"]}
    read = leases.parsed(json.dumps(old), "h1", "lease.json")
    assert (read["boot_id"], read["expires_uptime_s"]) == (None, None)
    bound = leases.bound(read, after(0))
    assert (bound["boot_id"], bound["expires_uptime_s"]) == ("boot-1", 5600.0)
    assert is_held(bound, after(599))
    assert not is_held(bound, after(600))


@pytest.mark.parametrize("lease", [FREE, leases.take(FREE, ALICE, NOON)])
def test_what_nobody_has_any_more_is_not_bound(lease):
    now = Moment(after(601).wall, "boot-2", 9.0)
    assert leases.bound(lease, now) == lease


def test_two_runs_of_one_owner_are_two_holders():
    held = leases.take(FREE, ALICE, NOON)
    second = ALICE._replace(run="drain-h1-again")
    assert leases.release(held, second, after(1)) == held
    with pytest.raises(LeaseError, match="is no longer valid"):
        leases.take(held, second._replace(fence=held["fence"]), after(1))
    taken = leases.take(held, second, after(600))
    assert taken["fence"] > held["fence"]
    assert leases.start_refusal(taken, held["fence"], "h1")["code"] == "lease_lost"
    assert leases.renew(taken, held["fence"], after(601)) == taken
    assert leases.release(taken, ALICE, after(601)) == taken


def test_giving_it_back_keeps_the_number():
    held = leases.take(FREE, ALICE, NOON)
    free = leases.release(held, ALICE, NOON)
    assert free == {**FREE, "fence": held["fence"]}
    assert leases.take(free, BOB, NOON)["fence"] == held["fence"] + 1


def test_nobody_gives_back_what_somebody_else_has():
    held = leases.take(FREE, ALICE, NOON)
    assert leases.release(held, BOB, after(60)) == held
    assert leases.release(held, ALICE._replace(fence=held["fence"] - 1), after(60)) == held


@pytest.mark.parametrize("seconds", [-10_000, 60, 10_000])
def test_a_lease_that_is_broken_fences_its_holder_off(seconds):
    held = leases.take(FREE, ALICE, NOON)
    broken = leases.release(held, BOB._replace(force=True), after(seconds))
    assert broken == {**FREE, "fence": broken["fence"]}
    assert broken["fence"] > held["fence"]
    why = leases.start_refusal(broken, held["fence"], "h1")
    assert why["reason"].endswith("h1 was taken over by another run, which has ended, or its lease was broken")
    assert leases.renew(broken, held["fence"], after(seconds)) == broken
    assert leases.release(broken, ALICE._replace(fence=held["fence"]), after(seconds)) == broken


def test_there_is_nothing_to_break_where_nobody_has_it():
    free = leases.release(leases.take(FREE, ALICE, NOON), ALICE, NOON)
    assert leases.release(free, BOB._replace(force=True), after(60)) == free


def test_ones_own_lease_is_given_back_and_not_broken_with_force():
    held = leases.take(FREE, ALICE, NOON)
    assert leases.release(held, ALICE._replace(force=True), after(60)) == {**FREE, "fence": held["fence"]}


def test_a_fence_grows_even_when_the_clock_goes_back_or_the_record_is_lost():
    held = leases.take(FREE, ALICE, NOON)
    back = leases.take(held, BOB._replace(force=True), after(-10_000))
    assert back["fence"] == held["fence"] + 1
    lost = leases.take(FREE, ALICE, after(3600))
    assert lost["fence"] > back["fence"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"owner": " "}, "owner is empty; set owner, so that others see who has h1"),
        ({"run": ""}, "run is empty"),
        ({"ttl_s": 0}, "ttl_s is 0, and 1 is the least it can be; set ttl_s to 1 or more"),
    ],
)
def test_a_claim_says_whose_and_how_long(change, words):
    with pytest.raises(LeaseError, match=words):
        leases.take(FREE, ALICE._replace(**change), NOON)


def test_a_lease_is_read_as_it_was_written():
    for lease in (FREE, leases.take(FREE, ALICE, NOON)):
        assert leases.parsed(json.dumps(lease), "h1", "lease.json") == lease


HELD = leases.take(FREE, ALICE, NOON)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is not JSON"),
        ("{", "it is not JSON"),
        ("null", "its schema is missing, not kvmops.lease/1"),
        ('{"schema": "kvmops.lease/2"}', "its schema is 'kvmops.lease/2', not kvmops.lease/1"),
        (json.dumps({**HELD, "fence": "7"}), "its fence must be a whole number, not a text"),
        (json.dumps({**FREE, "fence": -1}), "its fence must be 0 or more, not -1"),
        (json.dumps({**FREE, "fence": True}), "its fence must be a whole number, not true"),
        (json.dumps({**HELD, "owner": 7}), "its owner must be a text, not a whole number"),
        (json.dumps({**HELD, "run": None}), "its run is missing"),
        (json.dumps({**HELD, "since": None}), "its since is missing"),
        (json.dumps({**HELD, "hosts": [7]}), "its hosts[0] must be a text, not a whole number"),
        (json.dumps({**HELD, "purpose": {}}), "its purpose must be a text, not a mapping"),
        (json.dumps({**HELD, "ttl_s": 0}), "its ttl_s is 0"),
        (json.dumps({**HELD, "ttl_s": 10**15}), "its ttl_s is 1000000000000000"),
        (json.dumps({**HELD, "expires_at": "soon"}), "its expires_at is 'soon', not a time in UTC"),
        (json.dumps({**HELD, "expires_at": "2026-11-24T12:00:00"}), "its expires_at is '2026-11-24T12:00:00', not"),
        (json.dumps({**HELD, "since": "soon"}), "its since is 'soon', not a time in UTC"),
        (json.dumps({**HELD, "boot_id": 7}), "its boot_id must be a text, not a whole number"),
        (json.dumps({**HELD, "expires_uptime_s": "7"}), "its expires_uptime_s must be a number, not a text"),
        (json.dumps({**HELD, "expires_uptime_s": True}), "its expires_uptime_s must be a number, not true"),
        (json.dumps({**HELD, "hosts": "h1"}), "its hosts must be a list, not a text"),
    ],
)
def test_a_damaged_lease_is_told_and_counts_as_taken(text, words):
    with pytest.raises(LeaseError) as refused:
        leases.parsed(text, "h1", "/var/lib/kvmops/lease.json")
    why = refused.value.refusal
    assert why["code"] == "lease_damaged"
    assert why["reason"].startswith("the lease of h1 in /var/lib/kvmops/lease.json cannot be read: " + words)
    assert why["reason"].endswith("; so h1 counts as taken")
    assert why["remedy"] == ("see that no run is at work on h1, then break the lease with host_lease and force=true")

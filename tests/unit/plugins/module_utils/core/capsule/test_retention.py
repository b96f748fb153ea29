# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import retention
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import bases_of, images_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.retention import Rule, Stored
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.capsule.capsules import capsule

NOON = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc)
BASE = "blocks:base"


def named(number, *, guest="db1", day="2026-11-24", chain=None, memory=True, base=BASE):
    """A capsule whose layers are those of the capsules in the chain."""
    layers = [{"number": one, "image": f"blocks:{guest}-{one}"} for one in chain or (number,)]
    return capsule(
        guest={"name": guest, "uuid": guest},
        number=number,
        made_at=f"{day}T02:00:00Z",
        memory={"format": "sparse", "size_bytes": 9, "image": f"blocks:{guest}-memory-{number}"} if memory else None,
        disks=[{"target": "vda", "size_bytes": 9, "image": layers[-1]["image"], "base": base, "layers": layers}],
    )


def stored(*capsules, in_use=None, more=(), bases=(BASE,), unreadable=()):
    documents = {f"{one['guest']['name']}/{one['number']}": one for one in capsules}
    images = {*bases, *more}
    for one in capsules:
        images |= {*images_of(one).values(), *bases_of(one)}
    return Stored(documents, images, set(bases), in_use or {}, unreadable)


def test_the_last_ones_of_each_guest_are_kept_and_what_only_others_need_goes():
    has = stored(*(named(number) for number in (1, 2, 3)), named(1, guest="web"))
    found = retention.needs(has, Rule(keep_last=2))
    assert found.unneeded == ["db1/1", "blocks:db1-1", "blocks:db1-memory-1"]
    assert found.kept["db1/3"] == "it is one of the last 2"
    assert found.kept["web/1"] == "it is one of the last 2"
    assert found.kept["blocks:db1-3"] == "capsule 3 of db1 needs it"
    assert found.kept[BASE] == "capsule 2 of db1 needs it"


def test_a_layer_below_a_kept_capsule_stays_and_its_own_capsule_goes():
    has = stored(named(1), named(2, chain=(1, 2)), named(3, chain=(1, 2, 3)))
    found = retention.needs(has, Rule(keep_last=1))
    assert found.unneeded == ["db1/1", "db1/2", "blocks:db1-memory-1", "blocks:db1-memory-2"]
    assert found.kept["blocks:db1-1"] == "capsule 3 of db1 needs it"


def test_the_last_one_of_each_day_is_kept():
    days = ["2026-11-20", "2026-11-21", "2026-11-21", "2026-11-24", "2026-11-24"]
    has = stored(*(named(number, day=day) for number, day in enumerate(days, 1)))
    found = retention.needs(has, Rule(keep_last=1, keep_daily=2))
    assert [digest for digest in found.kept if digest.startswith("db1")] == ["db1/5", "db1/3"]
    assert found.kept["db1/3"] == "it is the last of 2026-11-21"
    assert found.kept["db1/5"] == "it is the last"


def test_a_clock_that_was_wrong_does_not_make_an_old_capsule_the_last():
    has = stored(named(1, day="2099-01-01"), named(2))
    assert retention.needs(has, Rule(keep_last=1)).unneeded[0] == "db1/1"


def test_what_is_in_use_stays_with_all_that_it_needs():
    uses = {"db1/1": "it is being sent to h3", "blocks:db1-2": "web runs on it"}
    found = retention.needs(stored(named(1), named(2), named(3), in_use=uses), Rule(keep_last=1))
    assert found.unneeded == ["db1/2", "blocks:db1-memory-2"]
    assert found.kept["db1/1"] == "it is being sent to h3"
    assert found.kept["blocks:db1-memory-1"] == "capsule 1 of db1 needs it"
    assert found.kept["blocks:db1-2"] == "web runs on it"


def test_a_base_in_use_is_never_removed_and_others_only_if_asked():
    has = stored(named(1), bases=(BASE, "blocks:old"))
    assert retention.needs(has, Rule(keep_last=1)).unneeded == []
    assert retention.needs(has, Rule(keep_last=1)).kept["blocks:old"] == "it is a base, and bases are not pruned"
    assert retention.needs(has, Rule(keep_last=1, bases=True)).unneeded == ["blocks:old"]
    on_it = has._replace(in_use={"blocks:old": "web runs on it"})
    assert retention.needs(on_it, Rule(keep_last=1, bases=True)).unneeded == []


def test_nothing_is_removed_while_a_capsule_cannot_be_read():
    has = stored(named(1), named(2), unreadable=("/var/lib/kvmops/capsules/x/7.json",))
    with pytest.raises(CapsuleError) as error:
        retention.needs(has, Rule(keep_last=1))
    assert error.value.refusal == {
        "code": "capsule_unreadable",
        "reason": "/var/lib/kvmops/capsules/x/7.json cannot be read, so nobody knows which images it needs",
        "remedy": "send that capsule again, or move the file away if it is not wanted any more; then prune again",
    }


def test_the_least_rule():
    assert retention.refusals(stored(), Rule(1, 0, delay_s=0)) == []


@pytest.mark.parametrize("rule", [Rule(0), Rule(1, -1), Rule(1, delay_s=-1)])
def test_a_rule_that_keeps_nothing_is_refused(rule):
    with pytest.raises(CapsuleError) as error:
        retention.needs(stored(named(1)), rule)
    assert error.value.refusal["code"] == "bad_option"
    assert error.value.refusal["reason"].startswith(f"keep_last is {rule.keep_last}, keep_daily {rule.keep_daily}")


def test_what_is_marked_is_removed_after_the_delay_and_in_order():
    first = retention.sweep(["db1/1", "blocks:x"], {}, NOON, 60)
    assert first == ([], {"db1/1": NOON, "blocks:x": NOON})
    soon = NOON + datetime.timedelta(seconds=59)
    assert retention.sweep(["db1/1", "blocks:x"], first.marks, soon, 60) == first
    late = NOON + datetime.timedelta(seconds=60)
    assert retention.sweep(["db1/1", "blocks:x"], first.marks, late, 60) == (["db1/1", "blocks:x"], {})


def test_what_is_needed_again_loses_its_mark_and_must_wait_anew():
    marks = retention.sweep(["db1/1"], {}, NOON, 60).marks
    late = NOON + datetime.timedelta(seconds=600)
    assert retention.sweep([], marks, late, 60) == ([], {})
    assert retention.sweep(["db1/1"], {}, late, 60) == ([], {"db1/1": late})


def test_a_mark_from_the_future_is_one_of_now():
    future = {"x": NOON + datetime.timedelta(days=900)}
    assert retention.sweep(["x"], future, NOON, 60) == ([], {"x": NOON})


def test_even_without_a_delay_there_are_two_steps():
    assert retention.sweep(["x"], {}, NOON, 0) == ([], {"x": NOON})
    assert retention.sweep(["x"], {"x": NOON}, NOON, 0) == (["x"], {})


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_whatever_is_removed_all_that_stays_is_whole(data):
    numbers = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=12, unique=True))
    made = []
    for number in sorted(numbers):
        below = [one for one in sorted(numbers) if one < number]
        chain = [*below[len(below) - data.draw(st.integers(0, min(3, len(below)))) :], number]
        base = data.draw(st.sampled_from([BASE, "blocks:other", None]))
        made.append(named(number, chain=chain, base=base, day=f"2026-11-{number:02d}", memory=data.draw(st.booleans())))
    uses = data.draw(st.sets(st.sampled_from([f"db1/{number}" for number in numbers])))
    has = stored(*made, in_use=dict.fromkeys(uses, "in use"), bases=(BASE, "blocks:other"))
    rule = Rule(data.draw(st.integers(1, 4)), data.draw(st.integers(0, 4)), data.draw(st.booleans()))
    found = retention.needs(has, rule)
    gone = set(found.unneeded)
    assert len(gone) == len(found.unneeded)
    assert gone.isdisjoint(found.kept)
    assert gone | set(found.kept) == set(has.capsules) | has.images
    assert uses.isdisjoint(gone)
    stays = [document for digest, document in has.capsules.items() if digest not in gone]
    assert len(stays) >= min(rule.keep_last, len(numbers))
    assert max(numbers) in {document["number"] for document in stays}
    for document in stays:
        assert gone.isdisjoint({*images_of(document).values(), *bases_of(document)})

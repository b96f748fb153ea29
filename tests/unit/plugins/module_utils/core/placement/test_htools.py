# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import random

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement import htools, score
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import NO_LIMIT, State
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.evacuation import evacuate
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.from_snapshots import NumberedCluster
from bench.inputs import clusters

#: Two groups, an offline node, an exclusion tag, DRBD fields left empty: as hscan writes it.
TEXT = """\
default|g1|preferred||
other|g2|preferred||

n1|16384|1024|12288|100000|90000|8|N|g1|1||N|0|0|1.0
n2|16384|1024|14336|100000|90000|8|M|g1|1||N|0|0|1.0
n3|16384|1024|15360|100000|90000|8|Y|g1|1||N|0|0|1.0
n4|16384|1024|15360|100000|90000|8|N|g2|1||N|0|0|1.0

web1|2048|0|2|running|Y|n1||rbd|service:web|1|-
web2|1024|0|1|running|Y|n2||rbd|service:web,owner:me|1|-
db1|1024|0|4|running|Y|n1||rbd||1|-

htools:iextags:service

|128,1,0,0,0,1|128,1,0,0,0,1;1048576,512,1,16,8,12|rbd|4.0|32.0
default|128,1,0,0,0,1|128,1,0,0,0,1;1048576,512,1,16,8,12|rbd|2.0|32.0
"""
MIB = 1024**2


def test_a_cluster_is_read():
    made = htools.read(TEXT)
    n1, n2, n3, n4 = made.hosts
    assert (n1.name, n1.memory_bytes, n1.base_bytes, n1.cpus) == ("n1", 16384 * MIB, 1024 * MIB, 8)
    assert n1.capacity_bytes == 15360 * MIB
    assert [host.is_open for host in made.hosts] == [True, True, False, True]
    assert (n1.vcpu_limit, n4.vcpu_limit) == (16, 32)
    assert n2.host_class == n3.host_class != n4.host_class
    web1, web2, db1 = made.units
    assert (web1.guests, web1.host, web1.need_bytes, web1.vcpus) == (("web1",), 0, 2048 * MIB, 2)
    assert web1.apart == web2.apart != ()
    assert db1.apart == ()


def test_what_is_missing_from_free_memory_is_taken_off():
    made = htools.read(TEXT.replace("n1|16384|1024|12288|", "n1|16384|1024|11264|"))
    assert made.hosts[0].capacity_bytes == 14336 * MIB
    assert made.hosts[0].base_bytes == 2048 * MIB
    assert State(made).free[0] == 11264 * MIB


def test_rules_of_ganeti_hold():
    """Apart of the same service, not to an offline node, not to another group, not above the ratio."""
    state = State(htools.read(TEXT))
    assert not state.can_take(0, 1)
    assert not state.can_take(0, 2)
    assert not state.can_take(0, 3)
    assert state.can_take(2, 1)


def test_an_empty_section_is_two_empty_lines():
    text = TEXT.replace("htools:iextags:service\n", "")
    assert "\n\n\n|128" in text
    made = htools.read(text)
    assert [unit.apart for unit in made.units] == [(), (), ()]
    assert made.hosts[0].vcpu_limit == 16


def test_a_text_without_policies_has_no_limits():
    made = htools.read(TEXT.split("\n\nhtools", maxsplit=1)[0])
    assert {host.vcpu_limit for host in made.hosts} == {NO_LIMIT}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "and an htools cluster has five"),
        (TEXT.replace("|n2||rbd|", "|n9||rbd|"), "instance web2 is on 'n9', which is not among the nodes"),
        (TEXT.replace("n1|16384", "n1|plenty"), "t_mem of n1 is 'plenty', which is no number"),
        (TEXT.replace("db1|1024|0|4|running|Y|n1||rbd||1|-", "db1|1024"), "instance 'db1' has 2 fields"),
    ],
)
def test_what_is_no_cluster_is_refused(text, error):
    with pytest.raises(htools.HtoolsError, match=error):
        htools.read(text)


def test_what_is_written_is_read_again():
    made = clusters.cluster(clusters.Shape(hosts=6, guests=40, apart=0.4, seed=3))
    again = htools.read(htools.write(made))
    assert score.hbal(State(again)).value == pytest.approx(score.hbal(State(made)).value)
    assert State(again).free == State(made).free
    assert [unit.guests for unit in again.units] == [unit.guests for unit in made.units]

    def groups(one):
        return {tuple(n for n, unit in enumerate(one.units) if group in unit.apart) for group in range(20)}

    assert groups(again) == groups(made)


def test_offline_hosts_count_as_hbal_counts_them():
    """4 for each guest on an offline node, and 16 more as a primary."""
    made = htools.read(TEXT.replace("n2|16384|1024|14336|100000|90000|8|M", "n2|16384|1024|14336|100000|90000|8|Y"))
    state = State(made)
    before = score.hbal(state)
    assert before.value > 20
    drained = evacuate(state, [1])
    assert drained.unplaced == (1,), "the only other host of its group runs another of its service"


@pytest.mark.parametrize("of", [score.hbal, score.kvmops])
@pytest.mark.parametrize("seed", range(10))
def test_the_score_is_kept_up_to_date(of, seed):
    """Against one made afresh after every move; memory and CPU are not mixed up."""
    rng = random.Random(seed)
    made = clusters.cluster(clusters.Shape(hosts=7, guests=60, seed=seed))
    hosts = [host._replace(pressure=rng.random(), is_open=n != 6) for n, host in enumerate(made.hosts)]
    made = made._replace(hosts=hosts)
    state = State(made)
    kept = of(state)
    for dummy in range(40):
        unit, host = rng.randrange(60), rng.randrange(7)
        source = state.where[unit]
        if host == source:
            continue
        said = kept.after(unit, source, host)
        state.move(unit, host)
        kept.note_move(unit, source, host)
        fresh = of(state).value
        assert kept.value == pytest.approx(fresh, abs=1e-9)
        assert said == pytest.approx(fresh, abs=1e-9)


def test_an_exchange_is_foreseen():
    made = clusters.cluster(clusters.Shape(hosts=4, guests=30, seed=9))
    state = State(made)
    kept = score.kvmops(state)
    one, other = next((a, b) for a in range(30) for b in range(30) if state.where[a] != state.where[b])
    here, there = state.where[one], state.where[other]
    said = kept.after(one, here, there, other)
    state.move(one, there)
    state.move(other, here)
    assert said == pytest.approx(score.kvmops(state).value, abs=1e-9)


def test_memory_and_cpu_of_a_score_are_what_they_are_called():
    """A host that is full of memory, and one that is full of CPU: each metric sees its own."""
    made = clusters.cluster(clusters.Shape(hosts=2, guests=4, seed=1))
    units = [
        unit._replace(host=n % 2, need_bytes=(5, 1)[n % 2] << 30, cpu=(0.0, 4.0)[n % 2])
        for n, unit in enumerate(made.units)
    ]
    only = {name: score.kvmops(State(made._replace(units=units)), {name: 1.0}) for name in ("memory", "cpu")}
    assert 0 < only["memory"].after(0, 0, 1) < only["memory"].value
    assert only["cpu"].after(0, 0, 1) == pytest.approx(only["cpu"].value)
    assert 0 < only["memory"].value < only["memory"].after(1, 1, 0)
    assert only["cpu"].after(1, 1, 0) < only["cpu"].value


def test_generated_clusters_are_the_same_for_the_same_seed_and_fit():
    shape = clusters.Shape(hosts=8, guests=80, fill=0.85, apart=0.3, seed=5)
    made = clusters.cluster(shape)
    assert made.units == clusters.cluster(shape).units
    assert min(State(made).free) >= 0
    first = sum(unit.host < 4 for unit in clusters.cluster(clusters.Shape(hosts=8, guests=80, fill=0.3, seed=5)).units)
    assert first > 50, "half are confined to the first half, and the others fall anywhere"


def test_generated_snapshots_are_the_same_cluster(tmp_path):
    made = clusters.cluster(clusters.Shape(hosts=4, guests=30, apart=0.3, seed=2))
    again = NumberedCluster(Constraints(clusters.snapshots(made)))
    state = State(again.cluster)
    assert min(state.free) > 0
    names = again.cluster.names
    assert {names[unit.guests[0]]: again.names[unit.host] for unit in again.cluster.units} == {
        unit.guests[0]: made.hosts[unit.host].name for unit in made.units
    }
    assert sum(bool(unit.apart) for unit in again.cluster.units) == sum(bool(unit.apart) for unit in made.units)
    out = tmp_path / "cluster.json"
    assert clusters.main(["--hosts", "3", "--guests", "9", "--out", str(out)]) == 0
    assert len(json.loads(out.read_text("utf-8"))) == 3

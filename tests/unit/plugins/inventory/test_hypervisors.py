# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
import yaml
from ansible.errors import AnsibleError, AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import inventory_loader
from ansible.utils.display import Display

from ansible_collections.kvmops.cluster.plugins.inventory import hypervisors
from ansible_collections.kvmops.cluster.plugins.plugin_utils.inventory.hypervisor_query import (
    HypervisorQuery,
    QueryError,
)
from ansible_collections.kvmops.cluster.tests.unit import hostile
from ansible_collections.kvmops.cluster.tests.unit.builders import domain, snapshot

NAME = "kvmops.cluster.hypervisors"


def plugin():
    """The plugin as Ansible loads it, with its options, but without the finder of collections, which would stay."""
    file = hypervisors.__file__
    inventory_loader._load_config_defs(NAME, hypervisors, file)
    made = hypervisors.InventoryModule()
    inventory_loader._update_object(obj=made, name=NAME, path=file, resolved=NAME)
    return made


class World:
    """A folder with an inventory file, hypervisors that answer, and those who are warned."""

    def __init__(self, path):
        self.folder = path
        self.live = {}
        self.asked = []
        self.warnings = []

    def look(self, query, name, uri):
        self.asked.append((name, uri, query))
        if name not in self.live:
            raise QueryError(f"{uri}: Connection refused")
        return {**self.live[name], "host": name, "connect_uri": uri}

    def save(self, *snapshots):
        (self.folder / "saved").mkdir(exist_ok=True)
        for one in snapshots:
            (self.folder / "saved" / f"{one['host']}.json").write_text(json.dumps(one))

    def parse(self, *, may_be_kept=True, file="cluster.kvmops.yml", inventory=None, **options):
        path = self.folder / file
        path.write_text(yaml.safe_dump({"plugin": NAME, **options}))
        inventory = inventory or InventoryData()
        made = plugin()
        made.parse(inventory, DataLoader(), str(path), cache=may_be_kept)
        if options.get("cache"):
            made.update_cache_if_changed()
        inventory.reconcile_inventory()
        return inventory

    def groups(self, **options):
        found = self.parse(**options).get_groups_dict()
        return {name: sorted(hosts) for name, hosts in found.items() if name not in ("all", "ungrouped")}


@pytest.fixture
def world(tmp_path, monkeypatch):
    made = World(tmp_path)
    monkeypatch.setattr(HypervisorQuery, "snapshot", lambda query, name, uri: World.look(made, query, name, uri))
    monkeypatch.setattr(Display, "warning", lambda _self, text, **_more: made.warnings.append(text))
    return made


def test_hypervisors_come_from_uris_and_from_saved_snapshots(world):
    world.live = {"h1": snapshot("h1", domain("web1"))}
    world.save(snapshot("h1", domain("old")), snapshot("h2", domain("web2", apart="web tier")))
    groups = world.groups(uris=["qemu+ssh://root@h1/system"], snapshots=["saved"], guests=True)
    assert groups == {
        "hypervisors": ["h1", "h2"],
        "hypervisors_active": ["h1", "h2"],
        "guests": ["web1", "web2"],
        "guests_active": ["web1", "web2"],
        "guests_on_h1": ["web1"],
        "guests_on_h2": ["web2"],
        "guests_apart_web_tier": ["web2"],
    }
    assert world.warnings == []


def test_hosts_have_the_variables_that_the_playbooks_want(world):
    world.live = {"node1": snapshot("h1", domain("web1"))}
    inventory = world.parse(uris={"node1": "qemu+ssh://root@10.0.1.11/system"})
    found = inventory.get_host("node1").get_vars()
    assert (found["kvmops_cluster_connect_uri"], found["ansible_host"], found["ansible_user"]) == (
        "qemu+ssh://root@10.0.1.11/system",
        "10.0.1.11",
        "root",
    )
    assert found["kvmops_hypervisor_guests"] == ["web1"]
    assert "web1" not in inventory.hosts


def test_a_guest_changes_no_host_and_no_group_of_the_inventory(world):
    known = InventoryData()
    known.add_group("databases")
    known.add_host("admin1", "databases")
    known.set_variable("admin1", "ansible_host", "10.0.0.1")
    before = known.get_host("admin1").get_vars()
    guests = [domain(name) for name in (*hostile.NAMES, "admin1", "databases", "large", "web1")]
    world.save(snapshot("h1", *guests))
    found = world.parse(inventory=known, snapshots=["saved"], guests=True, groups={"large": "true"})
    assert found.get_host("admin1").get_vars() == before
    groups = found.get_groups_dict()
    assert groups["databases"] == ["admin1"]
    assert groups["hypervisors"] == ["h1"]
    assert set(found.hosts) & (set(found.groups) | {"localhost"}) == set()
    assert {"admin1@h1", "databases@h1", "large@h1", "all@h1", "localhost@h1", "web1"} <= set(found.hosts)
    assert found.get_host("web1").get_vars().get("ansible_host") is None


def test_a_guest_is_one_host_in_two_files(world):
    world.save(snapshot("h1", domain("web1")))
    known = world.parse(snapshots=["saved"], guests=True)
    again = world.parse(inventory=known, file="second.kvmops.yml", snapshots=["saved"], guests=True)
    assert set(again.hosts) == {"h1", "web1"}


def test_it_is_in_constructed_style(world):
    gold = domain("web1")
    gold["metadata"]["tier"] = "gold"
    world.save(snapshot("h1", gold, domain("web2", memory_bytes=32 << 30)))
    inventory = world.parse(
        snapshots=["saved"],
        guests=True,
        compose={"where": "kvmops_guest_host ~ '/' ~ inventory_hostname"},
        groups={"large": "kvmops_guest_memory_bytes > 16 * 1024 ** 3"},
        keyed_groups=[{"key": "kvmops_guest_metadata.tier", "prefix": "tier"}],
    )
    groups = inventory.get_groups_dict()
    assert (groups["large"], groups["tier_gold"]) == (["web2"], ["web1"])
    assert inventory.get_host("web1").get_vars()["where"] == "h1/web1"


def test_strict_makes_a_bad_expression_an_error(world):
    world.save(snapshot("h1"))
    broken = {"snapshots": ["saved"], "compose": {"where": "kvmops_guest_host"}}
    assert world.groups(**broken)["hypervisors"] == ["h1"]
    with pytest.raises(AnsibleError, match=r"where.* h1.*kvmops_guest_host"):
        world.parse(strict=True, **broken)


def test_a_host_that_does_not_answer_is_left_out_with_a_warning_or_is_an_error(world):
    world.live = {"h1": snapshot("h1")}
    uris = ["qemu+ssh://root@h1/system", "qemu+ssh://root@h2/system"]
    assert world.groups(uris=uris)["hypervisors"] == ["h1"]
    told = "h2 cannot be read: qemu+ssh://root@h2/system: Connection refused"
    assert world.warnings == [f"{NAME}: {told}"]
    with pytest.raises(AnsibleParserError) as refused:
        world.parse(uris=uris, strict=True)
    assert told in str(refused.value)


def test_a_snapshot_that_cannot_be_read_is_left_out_with_a_warning_or_is_an_error(world):
    world.save(snapshot("h1"))
    assert world.groups(snapshots=["saved", "missing"])["hypervisors"] == ["h1"]
    (warning,) = world.warnings
    assert warning.endswith("missing: it cannot be read: No such file or directory")
    with pytest.raises(AnsibleParserError, match="missing: it cannot be read"):
        world.parse(snapshots=["saved", "missing"], strict=True)


def test_a_guest_that_is_being_moved_is_told_and_stops_nothing(world):
    world.save(snapshot("h1", domain("web1")), snapshot("h2", domain("web1", state="paused")))
    assert world.groups(snapshots=["saved"], guests=True, strict=True)["guests_on_h1"] == ["web1"]
    assert "is active on h1 and h2" in world.warnings[0]


def test_one_machine_under_two_names_is_an_error_where_that_is_wanted(world):
    world.live = {name: snapshot("h1") for name in ("a", "b")}
    uris = {name: f"qemu+ssh://{name}/system" for name in world.live}
    assert world.groups(uris=uris)["hypervisors"] == ["a", "b"]
    assert "a and b have the same host UUID" in world.warnings[0]
    with pytest.raises(AnsibleParserError, match="a and b have the same host UUID"):
        world.parse(uris=uris, strict=True)


@pytest.mark.parametrize(
    ("uris", "words"),
    [
        ("qemu:///system", "give a list of libvirt URIs, or a dictionary of URIs by name"),
        (["h1"], "'h1' is not a libvirt URI; one looks like"),
        ([7], "7 is not a libvirt URI"),
        ({"h1": None}, "None is not a libvirt URI"),
        (["qemu+ssh://h1:port/system"], "is not a libvirt URI"),
        (["qemu+ssh://[fd00/system"], "is not a libvirt URI"),
        (["qemu+ssh://h1/system", "qemu+tls://h1/system"], "would both be called h1; give uris as a dictionary"),
    ],
)
def test_bad_uris_are_told(world, uris, words):
    with pytest.raises(AnsibleParserError, match=words):
        world.parse(uris=uris)


def test_what_is_said_goes_to_those_who_look(world):
    world.live = {"h1": snapshot("h1")}
    world.parse(uris=["qemu+ssh://root@h1/system"], via="ssh", ssh_args=["-F", "none"], timeout_s=3)
    assert world.asked == [
        ("h1", "qemu+ssh://root@h1/system", HypervisorQuery(via="ssh", ssh_args=("-F", "none"), timeout_s=3.0))
    ]


class Cached:
    """One inventory file with a cache on disk."""

    def __init__(self, world):
        self.world = world
        self.options = {
            "cache": True,
            "cache_plugin": "jsonfile",
            "cache_connection": str(world.folder / "cache"),
            "uris": ["qemu+ssh://root@h1/system"],
        }

    def hosts(self, *, may_be_kept=True, **options):
        self.options.update(options)
        return self.world.groups(may_be_kept=may_be_kept, **self.options)["hypervisors"]

    def asked(self):
        return [name for name, _uri, _looking in self.world.asked]


@pytest.fixture
def cached(world):
    world.live = {"h1": snapshot("h1"), "h2": snapshot("h2")}
    return Cached(world)


def test_what_was_said_is_kept_until_somebody_wants_it_anew(cached):
    assert cached.hosts() == cached.hosts() == ["h1"]
    assert cached.asked() == ["h1"]
    assert cached.hosts(may_be_kept=False) == ["h1"]
    assert cached.asked() == ["h1", "h1"]


def test_other_uris_are_looked_at_whatever_was_kept(cached):
    cached.hosts()
    assert cached.hosts(uris=["qemu+ssh://root@h1/system", "qemu+ssh://root@h2/system"]) == ["h1", "h2"]


def test_what_is_incomplete_is_not_kept(cached):
    del cached.world.live["h2"]
    uris = ["qemu+ssh://root@h1/system", "qemu+ssh://root@h2/system"]
    assert cached.hosts(uris=uris) == ["h1"]
    cached.world.live["h2"] = snapshot("h2")
    assert cached.hosts() == ["h1", "h2"]


def test_files_are_read_each_time(cached):
    cached.world.save(snapshot("h3"))
    assert cached.hosts(snapshots=["saved"]) == ["h1", "h3"]
    cached.world.save(snapshot("h4"))
    assert cached.hosts() == ["h1", "h3", "h4"]
    assert cached.asked() == ["h1"]


@pytest.mark.parametrize(
    ("name", "mine"),
    [("x.kvmops.yml", True), ("hypervisors.yaml", True), ("inventory.yml", False), ("hypervisors.json", False)],
)
def test_its_files_are_told_by_their_names(tmp_path, name, mine):
    (tmp_path / name).write_text("plugin: x")
    assert plugin().verify_file(str(tmp_path / name)) is mine

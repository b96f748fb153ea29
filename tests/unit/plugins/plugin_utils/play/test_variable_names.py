# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which variables are misspelt options, and what their owner says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.plugin_utils.play import variable_names as names

ROOT = Path(__file__).parents[5]
DRAIN = names.role_owner(
    "drain_host", ["drain_host_name", "drain_host_intent", "drain_host_window", "drain_host_window_s"]
)
PREFLIGHT = names.role_owner("preflight", ["preflight_sources"])
MEASURE = names.role_owner("measure", names.PLAYBOOK_OPTIONS["measure"])
OURS = [f"kvmops.cluster.{role}" for role in ("run", "drain_host", "preflight", "restore_host")]
TAIL = (
    " Nothing was looked at or changed. If a name belongs to something else, list it in kvmops_cluster_other_variables."
)


@pytest.mark.parametrize(
    ("variable", "roles", "owner"),
    [
        ("drain_host_nmae", OURS, "drain_host"),
        ("drain_host_name", OURS, "drain_host"),
        ("kvmops_cluster_ur", OURS, "kvmops.cluster"),
        # What the others are about.
        ("restore_host_name", OURS, None),
        ("drain_hosts", OURS, None),
        ("run_nightly", OURS, None),
        ("__drain_host_planned", OURS, None),
        ("drain_host_", OURS, None),
        ("kvmops_guest_state", OURS, None),
        # Another role whose name begins like one of ours, or is the same.
        ("preflight_disks_s", [*OURS, "acme.infra.preflight_disks"], None),
        ("preflight_disks_s", [*OURS, "preflight_disks"], None),
        ("preflight_disks_s", [*OURS, "acme.infra.preflight"], None),
        ("preflight_disks_s", [*OURS, "acme.infra.disks", "acme.infra.pre"], "preflight"),
        ("preflight_sorces", [*OURS, "acme.infra.preflight_disks"], "preflight"),
    ],
)
def test_who_must_know_a_variable(variable, roles, owner):
    found = names.owner_of(variable, [names.inventory_owner(), DRAIN, PREFLIGHT], roles)

    assert (found.name if found else None) == owner


@pytest.mark.parametrize(
    ("pattern", "belongs"),
    [("drain_host_ticket", True), ("drain_host_tick*", True), ("drain_host", False), ("DRAIN_HOST_TICKET", False)],
)
def test_what_the_operator_says_belongs_to_something_else(pattern, belongs):
    assert names.is_other("drain_host_ticket", ["x", pattern]) is belongs


LISTED = "ansible-doc -t role kvmops.cluster.{} lists the options."


@pytest.mark.parametrize(
    ("unknown", "fault", "advice"),
    [
        (names.Unknown("drain_host_windw_s", DRAIN), "an option of drain_host", "did you mean drain_host_window_s?"),
        (
            names.Unknown("drain_host_max_downtimes_ms", DRAIN, value=3),
            "an option of drain_host",
            "did you mean drain_host_intent: {max_downtime_ms: 3}?",
        ),
        (
            names.Unknown("drain_host_max_downtime_ms", DRAIN, value="3", extra=True),
            "an option of drain_host",
            "did you mean -e '{drain_host_intent: {max_downtime_ms: 3}}'?",
        ),
        (
            names.Unknown("drain_host_max_downtime_ms", DRAIN, value="{{ vault }}"),
            "an option of drain_host",
            "did you mean drain_host_intent: {max_downtime_ms: ...}?",
        ),
        (names.Unknown("drain_host_qqq", DRAIN), "an option of drain_host", LISTED.format("drain_host")),
        # A role without an intent.
        (names.Unknown("preflight_max_downtime_ms", PREFLIGHT), "an option of preflight", LISTED.format("preflight")),
        (
            names.Unknown("measure_qqq", MEASURE),
            "an option of measure",
            "known are measure_allow_monitor, measure_intent, measure_s.",
        ),
        (
            names.Unknown("kvmops_cluster_ur", names.inventory_owner()),
            "a variable of kvmops.cluster",
            "did you mean kvmops_cluster_uri?",
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_is_told(unknown, fault, advice):
    assert names.message([unknown]) == f"{unknown.name} is not {fault}; {advice}{TAIL}"


def test_the_hosts_are_named_if_not_all_have_the_variable():
    some = names.Unknown("kvmops_cluster_ur", names.inventory_owner(), hosts=("h2", "h3"))

    assert names.message([some]).startswith("kvmops_cluster_ur (h2, h3) is not a variable of kvmops.cluster;")


def test_all_misspelt_variables_are_told_at_once():
    text = names.message([names.Unknown("drain_host_nmae", DRAIN), names.Unknown("drain_host_windw", DRAIN)])

    assert text == (
        "drain_host_nmae is not an option of drain_host; did you mean drain_host_name?"
        " drain_host_windw is not an option of drain_host; did you mean drain_host_window?" + TAIL
    )


# ---- the lists -------------------------------------------------------------------------------------------------------


def test_the_guide_describes_every_inventory_variable_and_no_other():
    guide = (ROOT / "docs/guides/inventory.md").read_text(encoding="utf-8")

    assert set(re.findall(r"^\| `(kvmops_cluster_\w+)` \|", guide, flags=re.MULTILINE)) == names.INVENTORY_VARIABLES


def test_what_the_collection_reads_of_an_inventory_is_known():
    files = [path for room in ("roles", "playbooks", "plugins") for path in (ROOT / room).rglob("*.[ympd]*")]
    read = {
        word for path in files for word in re.findall(r"\bkvmops_cluster_\w*[a-z]\b", path.read_text(encoding="utf-8"))
    }

    assert read == names.INVENTORY_VARIABLES


@pytest.mark.parametrize("playbook", names.PLAYBOOK_OPTIONS)
def test_a_playbook_without_a_role_reads_its_options_and_no_other(playbook):
    text = (ROOT / f"playbooks/{playbook}.yml").read_text(encoding="utf-8")
    # Not in a comment, and not the internal ones of a role.
    read = set(re.findall(rf"(?<![\w.]){playbook}_[a-z]\w*", re.sub(r"(?m)^#.*", "", text)))

    assert read == names.PLAYBOOK_OPTIONS[playbook]

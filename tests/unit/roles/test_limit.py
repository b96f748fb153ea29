# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A play that lacks hosts of the cluster is refused before anything is changed, or says what it leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from .conftest import part

ROLES = Path(__file__).parents[3] / "roles"


@pytest.mark.parametrize("role", ["drain_host", "recover", "restore_host", "rolling_upgrade"])
def test_a_role_that_needs_all_hosts_requires_them_first(role):
    tasks = yaml.safe_load((ROLES / role / "tasks/main.yml").read_text(encoding="utf-8"))
    called = [task["ansible.builtin.import_role"] for task in tasks[:2]]

    assert called == [{"name": "kvmops.cluster.run", "tasks_from": leg} for leg in ("variables", "whole_cluster")]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--limit", "b"], "--limit leaves a, c out of this play. The hosts of this play are b."),
        (["--limit", "b,a,c"], None),
        ([], None),
    ],
    ids=["one of three", "all", "none"],
)
def test_a_play_without_the_whole_cluster_is_refused(hosts, words, told):
    cluster = {"kvmops_cluster_hosts": "a,b,c"}

    outcome = hosts.play(part("run", "whole_cluster"), words=tuple(words), **cluster)

    assert outcome.status == (2 if told else 0), outcome.text
    assert (told or "ok=") in outcome.words, outcome.text


def test_hosts_that_are_left_out_are_named(hosts):
    note = part("run", "left_out", kvmops_cluster_hosts="a,b", __run_left_out_means="They are not measured.")

    outcome = hosts.play(note, words=("--limit", "b"))

    assert outcome.status == 0, outcome.text
    assert "note: --limit leaves out a. They are not measured." in outcome.words

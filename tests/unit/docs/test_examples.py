# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each example in the documentation is right: it can be read, and what it names exists."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.tests.unit.builders import cluster, domain, snapshot, uuid_of
from docsite import commands, examples, known

ROOT = Path(__file__).parents[3]
LISTED = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
PAGES = sorted(subprocess.run(LISTED, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("page", [page for page in PAGES if (ROOT / page).exists()])
def test_the_examples_of_a_page_are_right(page):
    assert examples.faults((ROOT / page).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", sorted((ROOT / "docs/examples").rglob("*.yml")), ids=lambda path: path.name)
def test_the_files_of_examples_are_right(path):
    assert examples.yaml_text(path.read_text(encoding="utf-8")) == []


#: What an example may say wrongly, and what is told.
WRONG = [
    ("yaml", "drain_host_max_downtime: 3", "drain_host_max_downtime is not known to drain_host"),
    ("yaml", "drain_host_on_blocked: skipp", "drain_host_on_blocked: skipp is none of ['stop', 'skip']"),
    ("yaml", "drain_host_intent: {max_downtime: 3}", "no intent has max_downtime; did you mean max_downtime_ms?"),
    ("yaml", "hypervisors: {hosts: {h1: {kvmops_cluster_uris: x}}}", "kvmops_cluster_uris is not known"),
    ("yaml", "- kvmops.cluster.host_inf: {}", "there is no module host_inf; did you mean host_info?"),
    ("yaml", "- kvmops.cluster.host_info: {nam: h1}", "host_info has no nam; did you mean name?"),
    ("yaml", "- hosts: all\n  roles: [{role: kvmops.cluster.drain}]", "there is no role kvmops.cluster.drain"),
    ("yaml", "script: [ansible-playbook kvmops.cluster.drain]", "there is no playbook kvmops.cluster.drain"),
    ("yaml", "a: [", "while parsing a flow"),
    ("json", '{"a": 1,}', "double quotes"),
    ("xml", "<guest>", "mismatched tag"),
    ("ini", "pipelining = true", "no section headers"),
    ("ini", "[Service]\nExecStart=/x/ansible-playbook kvmops.cluster.seeds", "no playbook kvmops.cluster.seeds"),
    ("python", "from pathlib import Pth", "pathlib has no Pth"),
    ("python", "from nowhere import it", "No module named 'nowhere'"),
    ("console", "ansible-playbook x.yml", "no line has a prompt"),
    ("console", "$ ansible-playbook kvmops.cluster.drain_hosts -e a=1", "did you mean drain_host?"),
    (
        "console",
        "$ ansible-playbook kvmops.cluster.drain_host -i x \\\n  -e drain_host_nme=h1",
        "drain_host_nme is not known",
    ),
    ("console", "$ ansible-playbook kvmops.cluster.drain_host -e evacuate_hosts=h1", "is no variable of drain_host"),
    ("console", "$ ansible-playbook kvmops.cluster.drain_host -e nme=h1", "nme is no variable of drain_host"),
    ("console", "$ ansible-playbook kvmops.cluster.drain_host --check", "drain_host needs drain_host_name"),
    ("console", "$ ansible-playbook kvmops.cluster.drain_host --chek", "ansible-playbook has no --chek"),
    ("console", "$ ansible-playbook docs/examples/awx/imports.yml", "there is no docs/examples/awx/imports.yml"),
    ("console", "# sudo ansible h1 -m kvmops.cluster.host_info -a nme=h1", "host_info has no nme"),
    ("console", "$ make dmo", "make has no dmo; did you mean demo?"),
    ("console", "$ make tools && make bench NAME=forecasts", "there is no bench forecasts"),
    ("console", "$ make soak NAME=fault", "make soak has no part fault"),
    ("console", "$ make bench SCENARI=x.yml", "make knows no SCENARI"),
    ("console", "$ make bench SCENARIO=x.yml", "there is no x.yml"),
    ("shell", "make demo", "nothing is known of blocks of the kind 'shell'"),
    ("", "make demo", "nothing is known of blocks of the kind ''"),
]


@pytest.mark.parametrize(("kind", "text", "told"), WRONG)
def test_a_wrong_example_is_found_with_its_line(kind, text, told):
    found = examples.faults(f"# Page\n\n```{kind}\n{text}\n```\n")

    assert any(told in fault for fault in found), found
    assert all(fault.startswith("line 3: ") for fault in found)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("permit it: `-e drain_host_exclud=db1`", "drain_host_exclud is not known"),
        ('permit it: `-e \'{"drain_host_intent": {"allow_copy": true}}\'`', "no intent has allow_copy"),
        ("`ansible-playbook kvmops.cluster.recovers` does it", "there is no playbook"),
        ("`make bench NAME=none` shows it", "there is no bench none"),
        ("With `drain_host_spar: warn` it warns", "drain_host_spar is not known to drain_host"),
        ("With `kvmops_cluster_address` it works", "kvmops_cluster_address is not known"),
        ("So:\n\n    make benches\n", "make has no benches"),
    ],
)
def test_a_wrong_command_in_a_sentence_is_found(text, told):
    [fault] = examples.faults(text)

    assert told in fault


@pytest.mark.parametrize(
    "text",
    [
        "```console\n$ ansible-playbook kvmops.cluster.report -e path=kvmops-reports\n18 runs, drain_host_x\n```\n",
        "```console\n$ ansible-playbook my.yml -e anything=1\n# ansible h1 -m ansible.builtin.ping\n```\n",
        '  ```yaml\n  drain_host_exclude: "{{ some }}"\n  other: 1\n  ```\n',
        "The module `preflight_report`, the role `evacuate_site`, `drain_host_spare: warn`, `other_name`",
        "`ansible-playbook kvmops.cluster.drain_host` needs more, as a sentence need not say.",
    ],
)
def test_right_examples_are_right(text):
    assert examples.faults(text) == []


def test_names_are_those_of_the_collection():
    assert {"drain_host", "measure", "report"} <= set(known.playbooks())
    assert known.playbooks()["drain_host"]["drain_host_on_blocked"]["choices"] == ["stop", "skip"]
    assert {"name", "uri"} <= known.modules()["host_info"]
    assert {"docs", "bench", "soak"} <= known.make_targets()
    assert {"NAME", "SCENARIO", "REPEATS", "ARGS", "OUT"} <= known.make_variables()
    assert commands.split("a 'b c'; d") == [["a", "b c"], ["d"]]


def test_the_example_of_planning_can_be_run():
    hosts = cluster(snapshot("h1", domain("web1")), snapshot("h2"), snapshot("h3"))
    [text] = [
        text for dummy, kind, text in examples.examples((ROOT / "docs/planning.md").read_text()) if kind == "python"
    ]
    names = {"snapshots": hosts, "intent": {}, "uuid": uuid_of("web1")}
    exec(text.replace('["h1", "h2"]', '["h1"]'), names)

    assert [step["guest"]["name"] for step in names["planned"].placement.steps] == ["web1"]
    assert names["planned"].expected["verdict"] == "fits"

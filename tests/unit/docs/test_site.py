# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the documentation site is made from: links that fit it, and pictures that are small and of today."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import REPORT
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports import page, report_view
from docsite import pictures, sources

ROOT = Path(__file__).parents[3]
IMAGES = ROOT / "docs/images"
GITHUB = "https://github.com/kvmops/cluster"


@pytest.mark.parametrize(
    ("at", "link", "there"),
    [
        ("README.md", "docs/guides/plans.md", "guides/plans.md"),
        ("README.md", "docs/README.md", "overview.md"),
        ("README.md", "COPYING", f"{GITHUB}/blob/main/COPYING"),
        ("docs/guides/plans.md", "../contracts.md#intent", "../contracts.md#intent"),
        ("docs/guides/ten-minutes.md", "../../README.md#see-it-work", "../index.md#see-it-work"),
        ("docs/README.md", "../tests/lab/README.md", f"{GITHUB}/blob/main/tests/lab/README.md"),
        ("docs/README.md", "../tests/lab", f"{GITHUB}/tree/main/tests/lab"),
        ("docs/guides/pipelines.md", "../examples/gitlab-ci.yml", "../examples/gitlab-ci.yml"),
        ("docs/architecture.md", "../roles/run/README.md", "roles/run.md"),
        ("roles/seed/README.md", "../../docs/guides/capsules.md", "../guides/capsules.md"),
        ("docs/README.md", "https://libvirt.org/acl.html", "https://libvirt.org/acl.html"),
        ("docs/README.md", "#reference", "#reference"),
    ],
)
def test_a_link_leads_to_the_same_page_on_the_site(at, link, there):
    assert sources.target(at, link) == there


def test_a_link_to_nothing_is_an_error():
    with pytest.raises(sources.SourceError, match=r"docs/README\.md: there is no docs/nothing\.md"):
        sources.target("docs/README.md", "nothing.md")


def test_code_keeps_its_text():
    text = "[a](docs/README.md)\n\n```text\n[a](docs/README.md)\n```\n"

    assert sources.rewritten("README.md", text, frozenset()) == text.replace("docs/README.md", "overview.md", 1)


def test_modules_and_roles_of_the_overview_are_linked():
    table = "| `host_info` | x |\n| `seed` | y |\n| `nobody` | z |\n"

    assert sources.rewritten("docs/README.md", table, frozenset({"host_info_module", "seed_role"})) == (
        "| [`host_info`](reference/host_info_module.rst) | x |\n"
        "| [`seed`](reference/seed_role.rst) | y |\n"
        "| `nobody` | z |\n"
    )


def test_the_navigation_has_every_page_once():
    named = [word.strip("<>") for line in sources.contents().splitlines() for word in line.split()[-1:]]
    listed = [name for name in named if name.endswith(".md")]

    assert sorted(listed) == sorted({sources.place(name) for name in sources.pages()} - {"index.md"})


def test_pictures_are_small_and_shown():
    text = "".join((ROOT / path).read_text(encoding="utf-8") for path in sources.pages())

    assert {path.name for path in IMAGES.iterdir()} == {picture.file for picture in pictures.PICTURES}
    for path in IMAGES.iterdir():
        assert path.stat().st_size < 150 * 1024, path.name
        assert path.name in text


def test_the_recorded_report_can_be_drawn():
    recorded = json.loads(pictures.RECORDED.read_text(encoding="utf-8"))

    assert recorded["schema"] == REPORT
    assert pictures.GUEST in [guest["guest"] for guest in recorded["guests"]]
    assert pictures.GUEST in page.page_html(report_view.report_page(recorded))

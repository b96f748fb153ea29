# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever a guest is called, a page has its name as text and nothing else."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.trend import trend
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports import page, report_view, trend_view
from ansible_collections.kvmops.cluster.tests.unit.builders import cluster, domain, snapshot

from .told_reports import HOSTILE, measured, told_plan, told_report

#: What the templates have; a name brings no other.
# fmt: off
ELEMENTS = {
    "html", "head", "meta", "title", "style", "body", "svg", "defs", "pattern", "rect", "circle", "path", "a",
    "main", "header", "h1", "h2", "h3", "h4", "p", "dl", "div", "dt", "dd", "nav", "ul", "ol", "li", "section",
    "span", "details", "summary", "pre", "code", "form", "label", "input", "button", "output", "figure",
    "figcaption", "desc", "line", "text", "polyline", "table", "caption", "thead", "tbody", "tr", "th", "td",
    "article", "strong", "footer", "script", "bdi",
}
# fmt: on
VOID = {"meta", "input"}


class Read(HTMLParser):
    """A page as a browser reads it: elements, attributes and texts; each element is closed where it should be."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.attributes, self.texts, self.open = set(), [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def hostile_pages():
    report = told_report(HOSTILE, failing=(1, 4))
    plan = told_plan(HOSTILE)
    seen = cluster(snapshot("h1", *map(domain, HOSTILE)), snapshot("h2"))
    return {
        "report": page.page_html(report_view.report_page(report)),
        "plan": page.page_html(report_view.plan_page(plan, seen, measured(plan), "x <&> y")),
        "trend": trend_view.trend_html(trend([{**report, "goal": {"kind": "drain", "hosts": [HOSTILE[0]]}}]), []),
    }


PAGES = hostile_pages()


@pytest.mark.parametrize("which", list(PAGES))
def test_a_name_brings_no_element_and_no_attribute(which):
    read = Read(PAGES[which])

    assert read.elements <= ELEMENTS
    assert not [name for name, dummy in read.attributes if name.startswith("on") or name == "style"]
    assert all(value.startswith(("#", "./")) for name, value in read.attributes if name in ("href", "src"))
    assert PAGES[which].count("<script>") == PAGES[which].count("</script>") == 1


@pytest.mark.parametrize("which", ["report", "plan"])
def test_a_name_is_shown_as_it_is(which):
    texts = set(Read(PAGES[which]).texts)
    assert {visible(name) for name in HOSTILE} <= texts


def test_a_page_has_no_character_that_is_not_seen():
    odd = {char for text in PAGES.values() for char in text if not char.isprintable()} - {"\n"}
    assert odd == set()


def test_a_page_needs_no_network_and_permits_no_script_but_its_own():
    for text in PAGES.values():
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert not re.search(r"unsafe|https?:", policy)
        assert not re.search(r"@import|url\((?!#)", text)


def test_what_a_report_says():
    text = page.page_html(report_view.report_page(told_report(["web1", "web2", "web3"], failing=(1,))))
    words = " ".join(" ".join(Read(text).texts).split())

    for said in (
        "Drain of h1: NOT done, 2 guests moved, 2 not",
        "web2 still runs on h1: its move to h2 failed (libvirt says no to web2).",
        "ansible-playbook kvmops.cluster.drain_host -e drain_host_name=h1",
        "PCI device 0000:3b:00.0 is passed through",
        "down for 80 ms, forecast 85 ms, accepted 200 ms: kept",
        "raise downtime: the rounds do not become smaller",
        "start postcopy: one pass is done",
        "what the link carries, 22.8 MiB/s",
        "Round 4 was the last. It began with 10.7 MiB left.",
        "Times in which a host sent no guest",
        "both hosts were asked about web2, and its method was chosen",
        "Errors of the forecasts: forecast over actual value, minus 1",
        "1.2 used, 6 vCPUs on 16 CPUs",
    ):
        assert said in words


def test_a_report_of_an_older_version_is_shown_as_far_as_it_goes():
    report = told_report(["web1"])
    for row in report["guests"]:
        for key in ("step", "memory_bytes", "started_at", "finished_at", "phases", "rounds", "decisions", "waits"):
            del row[key]
        del row["working_set"]
    for key in ("hosts", "remarks", "again"):
        del report[key]

    text = page.page_html(report_view.report_page(report))

    assert "How it writes its memory was not measured for this run." in text
    assert 'aria-label="no times are recorded"' in text


def test_a_plan_shows_the_hosts_as_they_will_be():
    plan = told_plan(["web1", "web2"])
    seen = cluster(snapshot("h1", domain("guest0"), domain("guest1")), snapshot("h2"))

    text = page.page_html(report_view.plan_page(plan, seen, measured(plan), "ansible-playbook x"))

    assert "guests: 2 → 0" in text
    assert "To carry it out:" in text
    assert 'aria-label="forecast: 0 s to 4 s"' in text
    assert "NOT done" not in text


def test_a_plan_without_steps_is_a_page_too():
    plan = {**told_plan(["web1"]), "steps": []}
    assert "No guest moves." in page.page_html(report_view.plan_page(plan, {}, {}))

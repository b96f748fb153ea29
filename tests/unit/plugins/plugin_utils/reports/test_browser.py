# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pages in a real browser: nothing lies over something else, nothing is complained of, keys are enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.trend import trend
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports import page, report_view, trend_view
from ansible_collections.kvmops.cluster.tests.unit.builders import cluster, domain, snapshot
from harness import browser

from .told_reports import HOSTILE, measured, told_plan, told_report

AUDIT = Path(browser.__file__).with_name("page_audit.js").read_text(encoding="utf-8")
OPEN_ALL = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"
MANY = [f"web{number}" for number in range(1, 501)]
pytestmark = pytest.mark.skipif(browser.program() is None, reason="no Chromium is here (Debian: chromium)")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser.Browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    names = ["web1", "web2", "web3", "db1"]
    plan = told_plan(names)
    seen = cluster(snapshot("h1", *map(domain, names)), snapshot("h2"))
    report = told_report(names, failing=(1,))
    texts = {
        "report": page.page_html(report_view.report_page(report)),
        "plan": page.page_html(report_view.plan_page(plan, seen, measured(plan), "ansible-playbook x")),
        "hostile": page.page_html(report_view.report_page(told_report(HOSTILE, failing=(1, 4)))),
        "trend": trend_view.trend_html(trend([report, {**report, "plan": "drain-2"}]), []),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["report", "plan", "hostile", "trend"])
def test_a_page_is_sound_in_every_window(chromium, pages, name, width, dark):
    chromium.open(pages / f"{name}.html", width=width, dark=dark)
    chromium.evaluate(OPEN_ALL)

    assert chromium.evaluate(AUDIT) == []
    assert chromium.complaints() == []


def test_a_name_does_nothing_in_a_browser(chromium, pages):
    chromium.open(pages / "hostile.html", width=1280)
    chromium.evaluate(OPEN_ALL)

    assert chromium.evaluate("document.title") == "Drain of h1 - NOT done"
    assert chromium.evaluate("document.querySelectorAll('img, iframe, [onclick], [onerror]').length") == 0
    assert chromium.evaluate("document.querySelectorAll('script').length") == 1
    assert chromium.evaluate("document.querySelectorAll('details.guest').length") == len(HOSTILE)


def test_keys_are_enough(chromium, pages):
    chromium.open(pages / "report.html", width=1280)
    chromium.evaluate("document.querySelector('#g1 > summary').focus()")
    chromium.press_enter()
    assert chromium.evaluate("document.getElementById('g1').open")
    reached = "[...document.querySelectorAll('a, button, summary, input')].every((one) => one.tabIndex >= 0)"
    assert chromium.evaluate(reached)


def test_guests_are_found_by_name_and_by_trouble(chromium, pages):
    chromium.open(pages / "report.html", width=1280)
    chromium.evaluate("""(() => {
        const field = document.getElementById('trouble-filter');
        field.checked = true;
        field.dispatchEvent(new Event('input', {bubbles: true}));
    })()""")
    assert chromium.evaluate("document.getElementById('count').textContent") == "2 of 4 shown"


def test_a_link_of_the_timeline_opens_its_guest(chromium, pages):
    chromium.open(pages / "report.html", width=1280)
    chromium.evaluate("document.querySelector('.row a[href=\"#g3\"]').click()")
    chromium.evaluate("new Promise((done) => setTimeout(done, 100))")
    assert chromium.evaluate("document.getElementById('g3').open")


def test_a_page_can_be_printed(chromium, pages):
    chromium.open(pages / "report.html", width=1280)
    assert chromium.pdf().startswith(b"%PDF")
    # What was closed is on paper, too.
    assert chromium.evaluate("[...document.querySelectorAll('details.guest')].every((one) => one.open)")


def test_five_hundred_guests(chromium, tmp_path):
    text = page.page_html(report_view.report_page(told_report(MANY, failing=(3, 77))))
    assert len(text) < 8 * 1024**2
    (tmp_path / "many.html").write_text(text, encoding="utf-8")
    chromium.open(tmp_path / "many.html", width=1280)

    # Guests that are not in the window are not drawn.
    guests = "[...document.querySelectorAll('details.guest')]"
    skipped = f"{guests}.filter((one) => getComputedStyle(one).contentVisibility === 'auto')"
    assert chromium.evaluate(f"{skipped}.length") == len(MANY)
    assert chromium.evaluate(AUDIT) == []
    assert chromium.complaints() == []

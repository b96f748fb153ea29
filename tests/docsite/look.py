# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at the site in Chromium: python -m docsite.look FOLDER

Some pages, each kind once, in a wide and in a narrow window, light and dark: nothing is wider than the window, all can
be read, nothing is in the console, nothing is asked of the network, and the menu leads to another page.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from harness import browser

AUDIT = Path(__file__).with_name("look.js").read_text(encoding="utf-8")
PAGES = ("index", "promises", "guides/reports", "reference/index", "reference/domain_migrate_module")
WIDTHS = (1280, 390)
#: In a narrow window the menu is opened first, as a finger would do it.
FOLLOW = """(() => {
    const button = document.querySelector('.mobile-header label[for="__navigation"]');
    if (button.checkVisibility()) {
        button.click();
    }
    const link = document.querySelector('.sidebar-tree a[href$="ten-minutes.html"]');
    const left = new Promise((done) => setTimeout(() => done(link.getBoundingClientRect().left), 600));
    return left.then((left) => { link.click(); return left >= 0; });
})()"""


def faults(running: browser.Browser, page: Path, width: int, dark: bool) -> list[str]:
    """Return what is wrong with one page in one window."""
    running.open(page, width=width, dark=dark)
    found = [str(fault) for fault in running.evaluate(AUDIT)]
    own = ("asks for file:", "asks for data:")
    return found + [fault for fault in running.complaints() if not fault.startswith(own)]


def menu_faults(running: browser.Browser, page: Path, width: int) -> list[str]:
    """Return what is wrong with the menu of a page."""
    running.open(page, width=width)
    if not running.evaluate(FOLLOW):
        return ["the menu does not come into the window"]
    there = running.evaluate("new Promise((done) => setTimeout(() => done(document.title), 600))")
    return [] if "ten minutes" in str(there) else [f"the menu leads to {there}"]


def main(folder: Path) -> int:
    """Look at all of them; return the exit status."""
    if browser.program() is None:
        print("Nobody has looked at the site: there is no Chromium here (Debian: chromium).")
        return 0
    found = []
    with tempfile.TemporaryDirectory() as kept, browser.Browser(Path(kept)) as running:
        for width in WIDTHS:
            for name in PAGES:
                for dark in (False, True):
                    where = f"{name}, {width} pixels, {'dark' if dark else 'light'}"
                    page = folder / f"{name}.html"
                    found += [f"{where}: {fault}" for fault in faults(running, page, width, dark)]
            found += [f"menu, {width} pixels: {fault}" for fault in menu_faults(running, folder / "index.html", width)]
    print("\n".join(found) or f"{len(PAGES)} pages were looked at in Chromium, in {2 * len(WIDTHS)} windows each.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

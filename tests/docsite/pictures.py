# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Draw the pictures of a report that the documentation shows: python -m docsite.pictures FOLDER

The report is one of `make demo`, kept beside this file. Letters look a little different on each machine.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports import page, report_view
from harness.browser import Browser

RECORDED = Path(__file__).with_name("recorded-report.json")
#: The guest that is shown in detail.
GUEST = "ledger"
NO_BARS = "document.documentElement.style.scrollbarWidth = 'none'"
OPEN_GUEST = f"""(() => {{
    const guest = [...document.querySelectorAll("details.guest")].find((one) => one.textContent.includes("{GUEST}"));
    guest.open = true;
    guest.scrollIntoView();
}})()"""


@dataclass(frozen=True)
class Picture:
    """One picture: its file, the window, the style, and what is done before."""

    file: str
    width: int
    height: int
    dark: bool = False
    before: str | None = None


PICTURES = (
    Picture("report-light.png", 1100, 760),
    Picture("report-guest-dark.png", 1100, 880, dark=True, before=OPEN_GUEST),
    Picture("report-phone.png", 390, 760),
)


def main(folder: Path) -> None:
    """Draw all of them into a folder."""
    report = json.loads(RECORDED.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as kept, Browser(Path(kept)) as browser:
        path = Path(kept) / "report.html"
        path.write_text(page.page_html(report_view.report_page(report)), encoding="utf-8")
        for picture in PICTURES:
            browser.open(path, width=picture.width, height=picture.height, dark=picture.dark)
            browser.evaluate(NO_BARS)
            if picture.before:
                browser.evaluate(picture.before)
            browser.screenshot(folder / picture.file, whole=False)
            print(f"{folder / picture.file} ({(folder / picture.file).stat().st_size // 1024} KiB)")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

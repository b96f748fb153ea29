# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Count the tests in the JUnit files of a folder, and say so in one line.

count.py FOLDER     prints "N passed, M failed, K skipped"; exit status 1 if any failed or none ran
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path


def count(folder: Path) -> tuple[int, int, int]:
    """Return how many tests passed, failed (an error is a failure) and were skipped.

    A file that cannot be read was cut off while it was written: that run failed.
    """
    total = failed = skipped = 0
    for file in sorted(folder.glob("*.xml")):
        try:
            suites = list(ET.parse(file).getroot().iter("testsuite"))
        except ET.ParseError:
            total += 1
            failed += 1
            continue
        for suite in suites:
            total += int(suite.get("tests", 0))
            failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            skipped += int(suite.get("skipped", 0))
    return max(total - failed - skipped, 0), failed, skipped


def main() -> int:
    """Print the line and return the exit status."""
    passed, failed, skipped = count(Path(sys.argv[1]))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())

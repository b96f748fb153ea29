# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that becomes the relay, once it is written down and in its control group.

python3 -m lab.line.relay TAP TAP SOCKET RATE_BIT_S DELAY_US QUEUE_US TELL
"""

from __future__ import annotations

import os
import signal
import sys

from lab.common.settings import from_environment
from lab.image.boot_image import relay_path
from lab.machine import background, cgroup

from .line import NAME

#: Packets on the way: at most 256 MiB in each direction.
MEMORY_MIB = 640


def main() -> None:
    *arguments, tell = sys.argv[1:]
    if not background.wait_for_word(int(tell)):
        sys.exit(1)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.umask(0o077)
    settings = from_environment()
    cgroup.join(settings.control_group(NAME), MEMORY_MIB)
    program = str(relay_path(settings))
    os.execv(program, [program, *arguments])  # noqa: S606 - it takes its arguments as they are


if __name__ == "__main__":
    main()

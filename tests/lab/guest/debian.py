# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a Debian guest about itself, through ssh."""

from __future__ import annotations

from lab.common.command import last_words, run
from lab.common.errors import LabError
from lab.common.settings import Settings
from lab.host import ssh

CONNECT_S = 60
#: Reads every page of every table and index: amcheck compares them, and the server checks the checksum of each page.
#: Without KVM, a database that is also at work takes twice as long for it.
CHECK_ONLINE = """systemctl stop pgbench
/usr/lib/postgresql/*/bin/pg_amcheck --username=postgres --database=bench --heapallindexed
"""
#: With the server stopped, each page is read from the disk, none from the server's memory.
CHECK_PAGES = """set -e
version=$(pg_lsclusters --no-header | awk '{print $1}')
systemctl stop "postgresql@$version-main"
/usr/lib/postgresql/$version/bin/pg_checksums --check --pgdata=/var/lib/postgresql/$version/main
systemctl start "postgresql@$version-main" pgbench
"""


def shell(settings: Settings, address: str, command: str, timeout: float = 300.0, given: str | None = None) -> str:
    """Run a shell command in a guest as root, give it something to read, and return what it printed."""
    done = run([*ssh.command(settings, address, CONNECT_S), command], check=False, timeout=timeout, given=given)
    if done.returncode:
        first = command.partition("\n")[0][:120]
        raise LabError(f"guest at {address}: `{first}`: exit status {done.returncode}: {last_words(done)}")
    return done.stdout


def check_database(settings: Settings, address: str) -> None:
    """Check all that the database holds; raises with its words where something is damaged."""
    shell(settings, address, CHECK_ONLINE)
    shell(settings, address, CHECK_PAGES)

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: shows the lines of a host's progress, one below the other.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.progress_lines import color_of, phrase


class Lines(t.Protocol):
    """Shows the progress of one host."""

    def show(self, line: dict[str, t.Any]) -> None:
        """Take a line about a guest or about the run."""

    def tick(self) -> None:
        """Called about once a second, whether or not there was a line."""

    def close(self) -> None:
        """The run is over, or is no longer followed."""

    def abandon(self) -> None:
        """Leave the terminal at once: ansible-playbook has been interrupted, and shows nothing any more."""


class PlainLines:
    """Every line stays, as a log has it.

    Args:
        display: Ansible's.
        host: the host whose lines these are.
    """

    def __init__(self, display: t.Any, host: str) -> None:
        self._display = display
        self.host = host

    def show(self, line: dict[str, t.Any]) -> None:
        """Show the line, if it is not for those who ask for more."""
        if line.get("level", 0) <= self._display.verbosity:
            self._display.display(phrase(self.host, line), color=color_of(line))

    def tick(self) -> None:
        """There is nothing to renew."""

    def close(self) -> None:
        """There is nothing to clear."""

    def abandon(self) -> None:
        """There is nothing to clear."""

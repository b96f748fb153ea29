# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a newcomer, in the README's own words: they are read from it, so that it cannot say anything else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

#: The README's address of the collection; in the root, Git takes the checkout instead.
ADDRESS = "https://github.com/kvmops/cluster"
HOME = "/root"
CHECKOUT = f"{HOME}/cluster"
ELSEWHERE = f"{HOME}/elsewhere"
IN_ENVIRONMENT = f'export PATH="{HOME}/environment/bin:$PATH" && '
CONTROLLER = (
    f" && mkdir {ELSEWHERE} && python3 -m venv {HOME}/environment && {HOME}/environment/bin/pip install ansible-core"
)
SCENARIO = "SCENARIO=tests/lab/scenarios/demo.yml"


class ReadmeError(Exception):
    """The README does not say what a newcomer shall do."""


@dataclass(frozen=True)
class Step:
    """One command that has to end with status 0.

    Attributes:
        name: what the report calls it.
        command: for bash.
        folder: where it runs.
        needs: names of the steps that must have passed before it.
        limit_s: after this time it has failed.
    """

    name: str
    command: str
    folder: str = HOME
    needs: tuple[str, ...] = ()
    limit_s: float = 600.0


def commands(readme: str, heading: str) -> list[str]:
    """Return the commands under a heading of a Markdown page: the lines that begin with a prompt.

    >>> commands("## A\\n\\n    $ one\\n\\n## B\\n\\n    $ two\\n", "B")
    ['two']
    """
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", readme, re.M | re.S)
    return re.findall(r"^ *\$ (.+)$", section[1], re.M) if section else []


def _command(readme: str, heading: str, word: str) -> str:
    found = [command for command in commands(readme, heading) if word in command]
    if len(found) != 1:
        raise ReadmeError(f'README.md, "{heading}": {len(found)} commands with "{word}", not one')
    return found[0]


def packages(readme: str) -> list[str]:
    """Return the Debian packages that the README asks for before its first command."""
    found = re.search(r"the packages ((?:`[a-z0-9.+-]+`(?:,\s+|,?\s+and\s+)?)+)", readme)
    if not found:
        raise ReadmeError("README.md does not say which Debian packages to install first (`the packages ...`)")
    return re.findall(r"`([^`]+)`", found[1])


def of_newcomer(readme: str) -> list[Step]:
    """Return the steps, in order.

    Raises:
        ReadmeError: a command is missing in the README.
    """
    install = "apt-get update && apt-get upgrade -y && apt-get install -y --no-install-recommends {}".format
    cloned = ("git clone",)
    return [
        Step("apt-get install", install(" ".join(packages(readme)))),
        Step("git clone", _command(readme, "See it work", "git clone"), needs=("apt-get install",)),
        Step("make check", "make check", CHECKOUT, cloned, 3600),
        Step("make demo", _command(readme, "See it work", "make demo"), CHECKOUT, cloned, 3600),
        # Ansible and the program that it reaches hosts with; the rest of the controller is in the README's commands.
        Step("controller", install("python3-venv openssh-client") + CONTROLLER, needs=cloned, limit_s=900),
        Step(
            "install from git",
            IN_ENVIRONMENT + " && ".join(commands(readme, "Install")),
            needs=("controller",),
        ),
        Step("make lab-up", f"make lab-up {SCENARIO}", CHECKOUT, cloned, 1200),
        Step(
            "preflight",
            f"{IN_ENVIRONMENT}cp {CHECKOUT}/build/lab/inventory.yml . && "
            + _command(readme, "Your first drain", "kvmops.cluster.preflight"),
            ELSEWHERE,
            ("install from git", "make lab-up"),
            900,
        ),
        Step("make lab-down", "make lab-down", CHECKOUT, ("make lab-up",)),
    ]


def missing(step: Step, passed: Sequence[str]) -> list[str]:
    """Return the steps that a step needs and that have not passed."""
    return [name for name in step.needs if name not in passed]

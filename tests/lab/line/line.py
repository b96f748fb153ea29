# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The line between two sites: start its relay, give it orders, read its counters.

The relay (relay.c) is a process of its own, in a control group of its own. Hosts that reboot do not concern it.
"""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from lab.common.errors import LabError
from lab.common.settings import Settings
from lab.layout.addresses import Networks
from lab.layout.scenario import LinePlan
from lab.machine import background, cgroup, network, process

#: Names its control group, and the files below.
NAME = "line"
READY_S = 10.0
#: A relay answers in microseconds, on a busy machine in milliseconds.
ANSWER_S = 5.0


@dataclass(frozen=True)
class LineState:
    """What a relay says of itself. Pairs are first site to second site, and back.

    Attributes:
        rate_bit_s: 0 for no limit.
        is_cut: whether a cut or a flapping goes on; ``is_down``: whether nothing passes at this moment.
        bytes: carried, with the headers of Ethernet, IP and TCP.
        dropped: packets that found the queue full or the line cut.
    """

    rate_bit_s: int
    delay_us: int
    queue_us: int
    is_cut: bool
    is_down: bool
    bytes: tuple[int, int]
    packets: tuple[int, int]
    dropped: tuple[int, int]


def record(settings: Settings) -> Path:
    """Return where the relay is written down."""
    return settings.run / f"{NAME}.relay"


def door(settings: Settings) -> Path:
    """Return the socket on which the relay takes orders."""
    return settings.run / f"{NAME}.socket"


def settings_words(plan: LinePlan) -> list[str]:
    """Return rate in bit/s, delay and queue in microseconds, as the relay wants them.

    >>> from lab.layout.scenario import LinePlan
    >>> settings_words(LinePlan(mbit=0.384, delay_ms=40, queue_ms=400))
    ['384000', '40000', '400000']
    """
    return [str(round(plan.mbit * 1e6)), str(round(plan.delay_ms * 1e3)), str(round(plan.queue_ms * 1e3))]


def cut_words(*, reset: bool, down_s: float, up_s: float = 0, total_s: float = 0) -> list[str]:
    """Return the order to cut the line: down and up by turns for `total_s` (0: until it is mended).

    >>> cut_words(reset=True, down_s=5, total_s=5)
    ['cut', 'reset', '5000', '0', '5000']
    """
    return ["cut", "reset" if reset else "drop", *(str(round(value * 1e3)) for value in (down_s, up_s, total_s))]


def parsed(answer: str) -> LineState:
    """Return what a relay answered."""
    data = json.loads(answer)
    return LineState(
        rate_bit_s=data["rate_bit_s"],
        delay_us=data["delay_us"],
        queue_us=data["queue_us"],
        is_cut=data["cut"],
        is_down=data["down"],
        bytes=(data["bytes"][0], data["bytes"][1]),
        packets=(data["packets"][0], data["packets"][1]),
        dropped=(data["dropped"][0], data["dropped"][1]),
    )


def start(settings: Settings, networks: Networks, plan: LinePlan) -> None:
    """Start the relay, or mend the line of the one that runs and give it these settings."""
    ends = network.make_line_ends(settings, networks)
    if process.recall(record(settings)) is not None:
        tell(settings, ["mend"])
        tell(settings, ["set", *settings_words(plan)])
        return
    settings.run.mkdir(parents=True, exist_ok=True)
    # One that nobody wrote down holds the devices.
    cgroup.remove(settings.control_group(NAME))
    door(settings).unlink(missing_ok=True)
    arguments = [*ends, str(door(settings)), *settings_words(plan)]
    log = settings.run / f"{NAME}.log"
    background.begin(
        settings, "the line between the sites", f"{__package__}.relay", arguments, record=record(settings), log=log
    )
    deadline = time.monotonic() + READY_S
    while not _answers(settings):
        if time.monotonic() > deadline or process.recall(record(settings)) is None:
            raise LabError("the line between the sites did not start", f"See {log}.")
        time.sleep(0.02)


def _answers(settings: Settings) -> bool:
    try:
        tell(settings, ["show"])
    except LabError:
        return False
    return True


def tell(settings: Settings, words: list[str]) -> LineState:
    """Give the relay an order, and return its state afterwards."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(ANSWER_S)
        try:
            channel.connect(str(door(settings)))
            channel.sendall((" ".join(words) + "\n").encode("ascii"))
            answer = b"".join(iter(lambda: channel.recv(4096), b""))
        except OSError as error:
            raise LabError(f"the line between the sites does not answer: {error}", "Run `up`: it starts it.") from None
    return parsed(answer.decode("ascii"))

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: errors of a connection that is dead, and questions that are asked again over a new one.

from __future__ import annotations

import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt

#: A daemon that is restarted opens its socket within a second, and answers when it knows its guests again: 2 to 6 s for
#: some guests, longer for hundreds.
PATIENCE_S = 30.0
POLL_S = 1.0
#: What is said of a daemon that is being restarted. A host that is off is not awaited here.
RESTARTING = ("connection_lost", "no_daemon")
#: libvirt's client (src/rpc/virnetclient.c) and its socket (virnetsocket.c).
_TEXTS = (
    "client socket is closed",
    "end of file while reading data",
    "end of file from server",
    "cannot recv data",
    "cannot write data",
    "connection reset by peer",
    "received hangup event on socket",
)

Answer = t.TypeVar("Answer")


def is_lost(error: Exception) -> bool:
    """Whether an error says that the connection to libvirt is dead, and nothing of what was asked."""
    if isinstance(error, virt.VirtError):
        return error.refusal["code"] in RESTARTING
    if virt.libvirt is None or not isinstance(error, virt.libvirt.libvirtError):
        return False
    return is_lost_text(str(error))


def is_lost_text(text: str) -> bool:
    """Whether a text of libvirt says so."""
    return any(part in text.lower() for part in _TEXTS)


def lost(error: t.Any) -> Refusal:
    """What to tell of such an error of libvirt."""
    return refusal(
        "connection_lost",
        f"the connection to libvirt has broken off: {error}",
        "see whether libvirt was restarted or has died there (journalctl -u libvirtd -u virtqemud), then run the same"
        " again",
    )


class Patience:
    """Asks again over a new connection where a daemon is being restarted.

    Args:
        clock, sleep: of the run.
        check_goes_on: called before each further try; raises to end them.
    """

    def __init__(
        self,
        clock: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
        check_goes_on: t.Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._check_goes_on = check_goes_on
        self._gave_up: set[str] = set()

    def ask(self, who: str, question: t.Callable[[], Answer], before_again: t.Callable[[], None]) -> Answer:
        """The answer to a question that changes nothing.

        Args:
            who: the host that may be without its daemon. For one that has not come back no other question waits.
            question: opens its connections anew where they are dead.
            before_again: called before each further try.

        Raises: what the question raises in the end.
        """
        end: float | None = None
        while True:
            try:
                answer = question()
            except Exception as error:
                if not is_lost(error):
                    raise
                if end is None:
                    # From here on, as the question itself may have waited for long.
                    end = self._clock() + (0.0 if who in self._gave_up else PATIENCE_S)
                if self._clock() >= end:
                    self._gave_up.add(who)
                    raise
                self._check_goes_on()
                self._sleep(POLL_S)
                before_again()
            else:
                self._gave_up.discard(who)
                return answer

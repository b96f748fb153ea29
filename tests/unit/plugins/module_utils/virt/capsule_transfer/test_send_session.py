# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import frames
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.send_session import (
    Outgoing,
    SendSession,
)

DIGEST = "sha256:" + "5a" * 32
PARTS = {"definition": b"<domain/>", "nvram": b"\0" * 64}


class FastLink:
    """A link over which each answer is there before the call that sends the question ends, or only afterwards."""

    rate = None

    def __init__(self, *, at_once):
        self.at_once, self.later, self.far_end = at_once, b"", frames.Decoder("h1")
        self.missing = list(PARTS)

    def send(self, data):
        answer = b"".join(self.answers(frame) for frame in self.far_end.feed(data))
        if self.at_once:
            return answer
        self.later += answer
        return b""

    def receive(self):
        assert self.later, "the far end has nothing more to say"
        answer, self.later = self.later, b""
        return answer

    def answers(self, frame):
        if isinstance(frame, frames.Offer):
            return frames.START + frames.encoded(frames.Answer(False, tuple(PARTS), ()))
        self.missing.remove(frame.name)
        if self.missing:
            return b""
        return frames.encoded(frames.Ready()) + frames.encoded(frames.Sealed(bytes.fromhex(DIGEST[7:])))


class Watch:
    def tick(self, link):
        """It goes on."""


@pytest.mark.parametrize("at_once", [True, False])
def test_an_answer_that_comes_while_the_last_part_is_sent_is_not_lost(at_once):
    link = FastLink(at_once=at_once)
    capsule = Outgoing(DIGEST, b"{}", b"", PARTS, {}, lambda names: (), lambda name: None)
    assert SendSession("h2", link, capsule, None, Watch()).run()
    assert link.missing == []

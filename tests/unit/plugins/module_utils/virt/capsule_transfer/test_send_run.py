# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A capsule that goes to several far ends in one run, through real pipes."""

from __future__ import annotations

import os
from typing import ClassVar

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run.progress import Progress
from ansible_collections.kvmops.cluster.plugins.module_utils.run.runner import Stop
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer import send_run
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.virt.capsule_transfer.stores import (
    UUID,
    Pair,
    content,
    keep,
)

#: Until the far end after this one has all, this one does not answer. A run that serves one after the other fails.
AFTER_THE_OTHER = 'timeout 20 cat {fifo} >/dev/null || exit 9; exec "$@"'
THEN_LET_GO = '"$@"; status=$?; timeout 20 sh -c "echo > {fifo}"; exit $status'


class _Key:
    """A key that opens each far end by a command."""

    commands: ClassVar[dict[str, list[str]]]

    def __init__(self, ticket):
        self.ticket = ticket

    def command(self, far_end):
        return self.commands[far_end.name]

    def exists(self):
        return True

    def remove(self):
        pass


@pytest.fixture
def branches(tmp_path, monkeypatch):
    """Two far ends with stores of their own; both would have the capsules of one source."""
    pair, other = Pair(tmp_path / "a"), Pair(tmp_path / "b")
    monkeypatch.setattr(send_run, "SendKey", _Key)
    return pair, other


def end(name):
    return {
        "name": name,
        "address": name,
        "port": 22,
        "user": "root",
        "host_keys": [],
        "link_bytes_per_s": None,
        "wanted": {},
    }


def send(pair, rate=None):
    request = send_run.SendRequest(UUID, None, rate, None, 60, "ticket-1", "h1", pair.source.directory)
    return send_run.sent(pair.source, request, [end("h2"), end("h3")], Progress(None), Stop())


def test_no_far_end_waits_for_another_one(branches, tmp_path, monkeypatch):
    pair, other = branches
    stored = keep(pair.source, 1, content(1))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    commands = {
        "h2": ["sh", "-c", AFTER_THE_OTHER.format(fifo=fifo), "sh", *pair.ticket(stored)],
        "h3": ["sh", "-c", THEN_LET_GO.format(fifo=fifo), "sh", *other.ticket(stored, name="h3")],
    }
    monkeypatch.setattr(_Key, "commands", commands, raising=False)
    rows = send(pair)
    assert [(row["host"], row["outcome"]) for row in rows] == [("h2", "sent"), ("h3", "sent")]
    assert (pair.arrived(stored), other.arrived(stored)) == (content(1), content(1))


def test_one_that_refuses_is_named_and_the_other_gets_it(branches, monkeypatch):
    pair, other = branches
    stored = keep(pair.source, 1, content(1))
    keys = ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPoSMIeW6GKXJz90HuTD+mIdwjxEEesFIizW36zvKpw operator",)
    commands = {"h2": pair.ticket(stored, keys=keys), "h3": other.ticket(stored, name="h3")}
    monkeypatch.setattr(_Key, "commands", commands, raising=False)
    refused, sent = send(pair)
    assert (refused["host"], refused["outcome"], refused["refusal"]["code"]) == ("h2", "refused", "signature_missing")
    assert (sent["host"], sent["outcome"], other.arrived(stored)) == ("h3", "sent", content(1))

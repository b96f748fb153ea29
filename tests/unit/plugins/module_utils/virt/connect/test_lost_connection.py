# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import lost_connection
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection import VirtError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import explained
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.host_state import cordon
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt

CLOSED = libvirt.libvirtError("internal error: client socket is closed", libvirt.VIR_ERR_INTERNAL_ERROR)
DENIED = libvirt.libvirtError("operation forbidden: read only access", libvirt.VIR_ERR_OPERATION_DENIED)


@pytest.fixture(autouse=True)
def binding(monkeypatch):
    monkeypatch.setattr(lost_connection.virt, "libvirt", libvirt)


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (CLOSED, True),
        (libvirt.libvirtError("Cannot recv data: Connection reset by peer"), True),
        (libvirt.libvirtError("End of file while reading data: Input/output error"), True),
        (DENIED, False),
        (VirtError(refusal("connection_lost", "x", "y")), True),
        (VirtError(refusal("no_daemon", "x", "y")), True),
        # A host that is off does not come back within seconds.
        (VirtError(refusal("unreachable", "x", "y")), False),
        (VirtError(refusal("no_answer", "x", "y")), False),
        (KeyError("x"), False),
    ],
)
def test_errors_of_a_dead_connection_are_known(error, lost):
    assert lost_connection.is_lost(error) is lost


def test_each_kind_of_error_has_its_own_remedy():
    why = explained(CLOSED)
    assert why["code"] == "connection_lost"
    assert why["remedy"].startswith("see whether libvirt was restarted or has died there")
    for error, code, remedy in (
        (CLOSED, "connection_lost", "see whether libvirt was restarted"),
        (DENIED, "record_not_published", "run as root (become: true)"),
    ):
        found = cordon._failed("read", error).refusal
        assert (found["code"], found["remedy"].startswith(remedy)) == (code, True)


def test_patience_begins_with_the_first_lost_answer_and_not_with_the_question():
    now = [0.0]
    answers = iter((CLOSED, "there"))

    def question():
        # It waits for a slot first.
        now[0] += 600.0
        answer = next(answers)
        if answer is CLOSED:
            raise answer
        return answer

    patience = lost_connection.Patience(lambda: now[0], lambda _s: None)
    assert patience.ask("h2", question, lambda: None) == "there"

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill import waking

lib = virt.libvirt


class Guest:
    """A guest that its disk pauses again so many times."""

    def __init__(self, fails, reason=None):
        self.fails = fails
        self.reason = lib.VIR_DOMAIN_PAUSED_IOERROR if reason is None else reason
        self.resumed = 0

    def state(self):
        if self.resumed > self.fails:
            return [lib.VIR_DOMAIN_RUNNING, 0]
        return [lib.VIR_DOMAIN_PAUSED, self.reason]

    def resume(self):
        self.resumed += 1

    def name(self):
        return "db1"

    def diskErrors(self):  # noqa: N802  (libvirt's name)
        return {"vda": 1}


@pytest.mark.parametrize("fails", [0, 1, 3, 40])
def test_it_is_resumed_until_it_stays_running(fails):
    assert waking.wake(Guest(fails), lambda dummy: None) == fails + 1


def test_a_guest_that_its_operator_paused_stays_paused():
    guest = Guest(0, lib.VIR_DOMAIN_PAUSED_USER)
    assert waking.wake(guest, lambda dummy: None) == 0
    assert guest.resumed == 0


def test_a_guest_that_is_paused_for_ever_is_given_up_with_its_disk():
    slept = []
    with pytest.raises(CapsuleError) as caught:
        waking.wake(Guest(1000), slept.append)
    assert caught.value.refusal["reason"] == (
        "db1 was resumed 60 times, and errors of its disk paused it each time (vda: an error)"
    )
    assert caught.value.refusal["remedy"].endswith("then run capsule_fill again")
    # QEMU takes up to half a minute to connect again.
    assert sum(slept) > 50

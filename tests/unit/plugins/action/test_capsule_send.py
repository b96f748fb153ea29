# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import types

import pytest
from ansible.errors import AnsibleError

from ansible_collections.kvmops.cluster.plugins.action.capsule_send import ActionModule


def hosts(**args):
    """The hosts that an action sends to and through, with these arguments of its task on h1."""
    action = ActionModule.__new__(ActionModule)
    action._task = types.SimpleNamespace(args=args, delegate_to=None)
    return action._hosts({"inventory_hostname": "h1"})


def test_one_host_may_be_named_without_a_list():
    assert hosts(to="h2") == (["h2"], None)
    assert hosts(to=["h2", "h3"], via="h3") == (["h2", "h3"], "h3")


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({}, "to has no host. Name those that are to have the capsule."),
        ({"to": ["h2", "h1"]}, "h1 is to send the capsule, and is in to as well. Take it out of to."),
        ({"to": ["h2", "h2"]}, "to names a host twice. Name each host once."),
        ({"to": ["h2"], "via": "h3"}, "via is h3, which is not in to. It keeps what it passes on: add it to to."),
    ],
)
def test_hosts_that_cannot_be_meant_are_refused(args, why):
    with pytest.raises(AnsibleError) as error:
        hosts(**args)
    assert str(error.value) == why

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import getpass
import socket
from unittest import mock

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.task import Task
from ansible.template import Templar

from ansible_collections.kvmops.cluster.plugins.action.domain_migrate import ActionModule


@pytest.mark.parametrize("given", [None, "alice@admin1"])
def test_the_module_is_told_who_runs_it(given):
    arguments = {"guest": "web1", "fence": 7, **({"owner": given} if given else {})}
    task = Task.load({"action": "kvmops.cluster.domain_migrate", "args": arguments})
    task.args = arguments
    action = ActionModule(
        task=task,
        connection=mock.Mock(),
        play_context=mock.Mock(),
        loader=DataLoader(),
        templar=mock.Mock(spec=Templar),
        shared_loader_obj=mock.Mock(),
    )
    told = action.module_arguments({"inventory_hostname": "h1"})
    assert told["owner"] == (given or f"{getpass.getuser()}@{socket.gethostname()}")
    assert (told["name"], told["fence"]) == ("h1", 7)

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: ends modules: the one place that turns errors into a module's failure.

from __future__ import annotations

import socket
import typing as t
import urllib.parse

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal, sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.shared_devices import pattern_refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.state_dir import STATE_DIR_ARGUMENT
from ansible_collections.kvmops.cluster.plugins.module_utils.run.state_owner import give_to_owner
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection import VirtError, require_libvirt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.explanation import explained

# Must be kept in sync with plugins/doc_fragments/shared_devices.py.
SHARED_DEVICES_ARGUMENT: dict[str, dict[str, t.Any]] = {
    "shared_devices": {"type": "list", "elements": "str", "default": []},
}

# Must be kept in sync with plugins/doc_fragments/connection.py and state_dir.py.
CONNECTION_ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "uri": {"type": "str", "default": "qemu:///system"},
    "name": {"type": "str"},
    **STATE_DIR_ARGUMENT,
}


def run(module: AnsibleModule, body: t.Callable[[], dict[str, t.Any]]) -> t.NoReturn:
    """Run a module's body and end the module with what it returns, or with why it could not.

    Args:
        module: the Ansible module; it ends here in every case.
        body: does the work and returns the module's result. Its exceptions that carry a ``refusal`` (VirtError among
            them) and those of libvirt become a failure; any other is a bug and keeps its traceback.
    """
    require_libvirt(module)
    try:
        result = body()
    except Exception as error:  # pylint: disable=broad-except
        why = explained(error)
        if why is None:
            raise
        fail(module, why)
    finally:
        if not module.check_mode and module.params.get("state_dir"):
            give_to_owner(module.params["state_dir"])
    module.exit_json(**result)


def fail(module: AnsibleModule, why: VirtError | Refusal, **result: t.Any) -> t.NoReturn:
    """End the module with a reason and a remedy; ``result`` is added to what it returns."""
    refused = why.refusal if isinstance(why, VirtError) else why
    module.fail_json(msg=sentence(refused), refusal=dict(refused), **result)


def host_name(module: AnsibleModule) -> str:
    """The host's name in the inventory, or what the host calls itself."""
    return module.params.get("name") or socket.gethostname()


def local_uri(module: AnsibleModule) -> str:
    """The URI of this host's libvirtd.

    Raises:
        VirtError: it leads to another host, whose files this module could not read.
    """
    uri = str(module.params["uri"])
    if urllib.parse.urlsplit(uri).hostname:
        raise VirtError(
            refusal(
                "not_local",
                f"{uri} leads to another host than the one the module runs on",
                "run the module on that host itself (delegate_to), with a URI such as qemu:///system",
            )
        )
    return uri


def shared_devices(parameters: t.Mapping[str, t.Any]) -> list[str]:
    """The patterns of the option ``shared_devices``.

    Raises:
        VirtError: one of them matches names that mean another device on each host.
    """
    patterns = list(parameters.get("shared_devices") or ())
    why = pattern_refusal(patterns)
    if why:
        raise VirtError(why)
    return patterns

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what all actions share that run on the controller only.

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible


class ControllerAction(ActionBase):  # type: ignore[misc]
    """Checks the arguments of a task and returns its result, without a connection to any host.

    Subclasses give C(ARGUMENTS), the argument spec that agrees with the documentation of the module of the same name,
    and C(result).
    """

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    ARGUMENTS: t.ClassVar[t.Mapping[str, t.Mapping[str, t.Any]]] = {}
    #: Rules over several arguments, by their names for C(AnsibleModule): C(required_one_of) and the like.
    RULES: t.ClassVar[t.Mapping[str, t.Any]] = {}

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Check the arguments, and return the result."""
        super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(argument_spec=dict(self.ARGUMENTS), **self.RULES)
        try:
            result = self.result(arguments, task_vars or {})
        except AnsibleError as error:
            if str(error).isprintable():
                raise
            # The words of others are in it: names of guests, what is wrong with a file. Ansible adds those of a cause.
            raise AnsibleActionFail(visible(error)) from None
        return {**result, "msg": visible(result["msg"])} if "msg" in result else result

    def result(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """Return the task's result.

        Args:
            arguments: the arguments of the task, with all defaults.
            variables: the variables of the task.
        """
        raise NotImplementedError

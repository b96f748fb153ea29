# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: runs modules on another host than the one of the task, within the same task. The other host
# is reached as the inventory says, with its own connection, options and become.

from __future__ import annotations

import getpass
import typing as t

from ansible import constants
from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import become_loader, connection_loader

Action = t.TypeVar("Action", bound=ActionBase)


class OtherHost:
    """Another host.

    Args:
        action: the action of the task.
        task_vars: variables of the task.
        host: name in the inventory.

    Attributes:
        name: see C(host).
        variables: those that the inventory and its facts have of the host, not templated.

    Raises:
        AnsibleError: the inventory has no such host.
    """

    def __init__(self, action: ActionBase, task_vars: dict[str, t.Any], host: str) -> None:
        hostvars = task_vars["hostvars"]
        if host not in hostvars:
            raise AnsibleError(f"{host} is not in the inventory, so it cannot be reached. Add it, with its variables.")
        self.name = host
        self.variables: dict[str, t.Any] = {**hostvars.raw_get(host), "hostvars": hostvars}
        self._action = action
        self._templar = action._templar.copy_with_new_env(available_variables=self.variables)
        self._play_context = action._play_context.copy()
        self._task = action._task.copy(exclude_parent=True, exclude_tasks=True)
        self._task.delegate_to = None
        self._connection: t.Any = None

    def variable(self, name: str) -> t.Any:
        """The value of a variable of the host; None where it has none."""
        return self._templar.template(self.variables[name]) if name in self.variables else None

    def user(self) -> str:
        """Who logs in at the host."""
        connection = self._connect()
        user = connection.get_option("remote_user") if "remote_user" in connection.get_options() else None
        return str(user or (getpass.getuser() if connection.transport == "ssh" else "root"))

    def action(self, kind: type[Action], arguments: dict[str, t.Any] | None = None) -> Action:
        """An action whose connection leads to the host.

        Args:
            kind: its class.
            arguments: those of its task; by default those of the task that is being done.
        """
        if arguments is not None:
            self._task.args = arguments
        return kind(
            task=self._task,
            connection=self._connect(),
            play_context=self._play_context,
            loader=self._action._loader,
            templar=self._templar,
            shared_loader_obj=self._action._shared_loader_obj,
        )

    def module(self, name: str, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        """Run a module there; returns its result."""
        action = self.action(_Module)
        try:
            return t.cast(
                "dict[str, t.Any]",
                action._execute_module(module_name=name, module_args=arguments, task_vars=self.variables),
            )
        finally:
            action.cleanup()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> t.Any:
        if self._connection is not None:
            return self._connection
        kind = str(self.variable("ansible_connection") or self._task.connection or "ssh")
        self._play_context.remote_addr = str(self.variable("ansible_host") or self.name)
        connection = connection_loader.get(kind, self._play_context, task_uuid=self._task._uuid)
        if connection is None:
            raise AnsibleError(f"{self.name} has the connection {kind}, and there is no such plugin.")
        become = self._become()
        connection.set_become_plugin(become)
        if become is not None:
            self._play_context.set_become_plugin(become.name)
        keys = self._task.dump_attrs()
        # The timeout of a task is not that of a connection, and so with retries.
        keys["timeout"] = self._play_context.timeout
        keys.pop("retries", None)
        if self._play_context.password:
            keys["password"] = self._play_context.password
        connection.set_options(
            task_keys=keys, var_options=connection._resolve_option_variables(self.variables, self._templar)
        )
        self._set_options("shell", connection._shell, keys)
        if become is not None:
            if self._play_context.become_pass:
                keys["become_pass"] = self._play_context.become_pass
            self._set_options("become", become, keys)
        self._play_context.set_attributes_from_plugin(connection)
        self._connection = connection
        return connection

    def _become(self) -> t.Any:
        wanted = self.variable("ansible_become")
        if not (self._task.become if wanted is None else boolean(wanted)):
            return None
        method = str(self.variable("ansible_become_method") or self._task.become_method or "sudo")
        plugin = become_loader.get(method)
        if plugin is None:
            raise AnsibleError(f"{self.name} has the become method {method}, and there is no such plugin.")
        return plugin

    def _set_options(self, kind: str, plugin: t.Any, keys: dict[str, t.Any]) -> None:
        names = constants.config.get_plugin_vars(kind, plugin._load_name)
        options = {name: self.variable(name) for name in names if name in self.variables}
        plugin.set_options(task_keys=keys, var_options=options)


class _Module(ActionBase):  # type: ignore[misc]
    """Runs modules; it is no action of its own."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Nothing: C(OtherHost.module) runs what it is asked for."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        return result

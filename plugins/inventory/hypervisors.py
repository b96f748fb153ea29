# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: hypervisors
short_description: Make an inventory of hypervisors and their guests
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - Makes an inventory of hypervisors. With O(guests=true), their guests are in it, too. It asks the libvirtds of the
    hypervisors, or reads snapshots that M(kvmops.cluster.host_info) took, or does both.
  - Hypervisors are in the group C(hypervisors), which the playbooks of this collection use. Each one is also in
    C(hypervisors_active), C(hypervisors_cordoned) or C(hypervisors_maintenance).
  - Guests are in the groups C(guests) and C(guests_on_HOST), and in C(guests_active) or C(guests_off).
  - The metadata of a guest adds it to C(guests_apart_GROUP), C(guests_together_GROUP) and C(guests_home_HOST). Each
    permission in its own intent adds it to a group such as C(guests_allow_postcopy).
  - Changes nothing. All connections are read-only.
  - The name of the file must end in C(hypervisors.yml), C(hypervisors.yaml), C(kvmops.yml) or C(kvmops.yaml).
extends_documentation_fragment:
  - constructed
  - inventory_cache
options:
  plugin:
    description: The name of this plugin.
    type: str
    required: true
    choices:
      - kvmops.cluster.hypervisors
  uris:
    description:
      - The libvirt URIs of the hypervisors. In a list, such as V(qemu+ssh://root@h1/system), each hypervisor gets the
        name of the host in its URI. In a dictionary of names to URIs, you choose the names.
    type: raw
    default: []
  snapshots:
    description:
      - Files with snapshots of hosts (schema V(kvmops.snapshot/1)), and folders with such files. Files in folders must
        end in C(.json). A relative path starts from the folder of the inventory file.
      - If a host has a snapshot and its libvirtd answers, the answer counts.
    type: list
    elements: str
    default: []
  guests:
    description:
      - Add the guests to the inventory, under their own names. If two guests have the same name, or a guest has the
        name of a hypervisor, of a group, of C(localhost), or of a host that the inventory already has, C(@HOST) is
        added to the name.
      - A guest is called C(guest_UUID) if its name could be taken for a pattern of Ansible, an option of ssh or a
        command, as V(-x), V(web*) or V(a,b) could. C(kvmops_guest_name) is always its own name.
      - A guest has no C(ansible_host). If Ansible must connect to the guest, set it with O(compose). One that does not
        have its own name has its UUID there, which leads nowhere, so that nobody gets to a hypervisor instead.
      - Owners of guests write their metadata. If you make groups of it with O(keyed_groups), give these a C(prefix), so
        that no owner can put a guest into another group.
    type: bool
    default: false
  via:
    description:
      - How to ask the libvirtd of a URI. Nothing is installed on the hypervisor in any case.
      - V(binding) uses a Python of the controller that has the libvirt binding.
      - V(virsh) uses the program virsh on the controller.
      - V(ssh) uses C(/usr/bin/python3) and C(python3-libvirt) on the hypervisor. The controller then needs no libvirt.
        It works for URIs that begin with C(qemu+ssh://).
      - V(auto) uses the first of these that is possible.
    type: str
    choices:
      - auto
      - binding
      - virsh
      - ssh
    default: auto
  ssh_args:
    description:
      - Further arguments of ssh, with O(via=ssh). C(keyfile), C(known_hosts) and C(no_verify) in a URI are used, too.
    type: list
    elements: str
    default: []
  timeout_s:
    description: How long to wait for the answer of a hypervisor, in seconds.
    type: float
    default: 20
  forks:
    description: How many hypervisors are asked at once.
    type: int
    default: 10
notes:
  - A hypervisor that does not answer, or a snapshot that cannot be read, is left out with a warning. With
    O(strict=true) it is an error. An incomplete result is not kept in the cache.
  - With O(cache=true), the answers of the libvirtds are kept. Files are read each time. C(ansible-inventory
    --flush-cache) asks the libvirtds again.
requirements:
  - For O(uris), one of python3-libvirt, libvirt-clients and ssh on the controller.
seealso:
  - module: kvmops.cluster.host_info
  - plugin: ansible.builtin.constructed
    plugin_type: inventory
"""

EXAMPLES = r"""
# cluster.kvmops.yml: three hypervisors, as the playbooks of this collection want them
plugin: kvmops.cluster.hypervisors
uris:
  - qemu+ssh://root@h1.example.org/system
  - qemu+ssh://root@h2.example.org/system
  - qemu+ssh://root@h3.example.org/system
compose:
  kvmops_cluster_migration_address: "'10.0.5.1' ~ (inventory_hostname | regex_search('[0-9]+'))"
---
# The same with names of your choice and with the guests, kept for five minutes
plugin: kvmops.cluster.hypervisors
uris:
  h1: qemu+ssh://root@10.0.1.11/system
  h2: qemu+ssh://root@10.0.1.12/system
guests: true
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/kvmops
cache_timeout: 300
keyed_groups:
  - key: kvmops_guest_metadata.tier
    prefix: tier
groups:
  large: kvmops_guest_memory_bytes | default(0) > 16 * 1024 ** 3
---
# From saved snapshots of a cluster, without any connection to it
plugin: kvmops.cluster.hypervisors
snapshots:
  - snapshots/
guests: true
"""

import concurrent.futures
import typing as t
import urllib.parse
from pathlib import Path

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.utils.display import Display

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible
from ansible_collections.kvmops.cluster.plugins.plugin_utils.files import saved_snapshots
from ansible_collections.kvmops.cluster.plugins.plugin_utils.inventory.entries import (
    Entry,
    Hypervisor,
    clones,
    entries,
    strays,
    unread,
)
from ansible_collections.kvmops.cluster.plugins.plugin_utils.inventory.hypervisor_query import (
    HypervisorQuery,
    QueryError,
)

ENDINGS = ("hypervisors.yml", "hypervisors.yaml", "kvmops.yml", "kvmops.yaml")


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Hypervisors and their guests as an inventory."""

    NAME = "kvmops.cluster.hypervisors"

    def verify_file(self, path: str) -> bool:
        """Whether a file is one of this plugin's, by its name."""
        return bool(super().verify_file(path)) and path.endswith(ENDINGS)

    def parse(self, inventory: t.Any, loader: t.Any, path: str, cache: bool = True) -> None:
        """Fill the inventory from a file of this plugin's."""
        super().parse(inventory, loader, path)
        self._read_config_data(path)
        by_name = {one["host"]: one for one in self._saved(Path(path).parent)}
        by_name.update({one["host"]: one for one in self._live(path, cache)})
        for trouble in clones(by_name.values()):
            self._trouble(trouble)
        for trouble in (*strays(by_name.values()), *unread(by_name.values())):
            # It may be nothing but a move under way, or one guest of many, so it never stops an inventory.
            self._warn(trouble)
        for entry in entries(list(by_name.values()), guests=self.get_option("guests"), taken=self._taken()):
            self._add(entry)

    def _taken(self) -> dict[str, str | None]:
        """Names of hosts and groups that the inventory has from elsewhere; those of guests with their UUIDs."""
        inventory: t.Any = self.inventory
        hosts = {name: host.get_vars().get("kvmops_guest_uuid") for name, host in inventory.hosts.items()}
        return {**hosts, **dict.fromkeys((*inventory.groups, *self.get_option("groups")))}

    def _saved(self, folder: Path) -> list[Hypervisor]:
        found: list[Hypervisor] = []
        for path in self.get_option("snapshots"):
            try:
                found += saved_snapshots.read(folder / Path(path).expanduser())
            except saved_snapshots.SavedError as error:
                self._trouble(str(error))
        return found

    def _live(self, path: str, cache: bool) -> list[Hypervisor]:
        """What the libvirtds say, or said when that was kept."""
        uris = _named(self.get_option("uris"))
        if not uris:
            return []
        if not self.get_option("cache"):
            return self._ask_all(uris)
        key = self.get_cache_key(path)
        kept = self._cache.get(key) if cache else None
        if isinstance(kept, dict) and kept.get("uris") == uris:
            return t.cast("list[Hypervisor]", kept["hypervisors"])
        found = self._ask_all(uris)
        if len(found) == len(uris):
            self._cache[key] = {"uris": uris, "hypervisors": found}
        return found

    def _ask_all(self, uris: dict[str, str]) -> list[Hypervisor]:
        query = HypervisorQuery(
            self.get_option("via"), tuple(self.get_option("ssh_args")), self.get_option("timeout_s")
        )
        found: list[Hypervisor] = []
        with concurrent.futures.ThreadPoolExecutor(max(1, self.get_option("forks"))) as pool:
            asked = {name: pool.submit(query.snapshot, name, uri) for name, uri in uris.items()}
        for name, answer in asked.items():
            try:
                found.append(answer.result())
            except QueryError as error:
                self._trouble(f"{name} cannot be read: {error}")
        return found

    def _trouble(self, text: str) -> None:
        if self.get_option("strict"):
            raise AnsibleParserError(visible(text))
        self._warn(text)

    def _warn(self, text: str) -> None:
        Display().warning(f"{self.NAME}: {visible(text)}")

    def _add(self, entry: Entry) -> None:
        inventory: t.Any = self.inventory
        inventory.add_host(entry.name)
        for group in entry.groups:
            inventory.add_child(inventory.add_group(self._sanitize_group_name(group)), entry.name)
        for name, value in entry.variables.items():
            inventory.set_variable(entry.name, name, value)
        variables, strict = inventory.get_host(entry.name).get_vars(), self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, entry.name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, entry.name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, entry.name, strict=strict)


def _named(uris: t.Any) -> dict[str, str]:
    """URIs by the names that the hypervisors are to have.

    Raises:
        AnsibleParserError: that is not what is there.
    """
    if isinstance(uris, dict):
        pairs = [(str(name), uri) for name, uri in uris.items()]
    elif isinstance(uris, list):
        pairs = [(_host_of(uri), uri) for uri in uris]
    else:
        raise AnsibleParserError(f"uris is {uris!r}; give a list of libvirt URIs, or a dictionary of URIs by name")
    found: dict[str, str] = {}
    for name, uri in pairs:
        if not _is_uri(uri):
            raise AnsibleParserError(
                f"{uri!r} is not a libvirt URI; one looks like qemu+ssh://root@h1.example.org/system"
            )
        if name in found:
            raise AnsibleParserError(
                f"{found[name]} and {uri} would both be called {name}; give uris as a dictionary with a name for each"
            )
        found[name] = str(uri)
    return found


def _is_uri(uri: t.Any) -> bool:
    try:
        return isinstance(uri, str) and "://" in uri and urllib.parse.urlsplit(uri).port != 0
    except ValueError:
        return False


def _host_of(uri: t.Any) -> str:
    return (urllib.parse.urlsplit(uri).hostname if _is_uri(uri) else None) or "localhost"

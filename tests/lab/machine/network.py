# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bridges, cables and network namespaces.

Every host gets a network namespace that the lab makes itself and into which it lays three cables, one a network. Made
here and not by nspawn, they outlive a reboot and a crash of the host: addresses, limits and cuts stay as they are, and
nothing stale is left by a container that died.
"""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path

from lab.common.command import run
from lab.common.errors import LabError
from lab.common.settings import Settings
from lab.layout.addresses import Network, Networks
from lab.layout.scenario import HostPlan

GUEST_BRIDGE = "brg"
# A second one in each host, which leads nowhere.
SECOND_BRIDGE = "brx"
# What the three cables are called inside a host.
INNER = {"migration": "mig0", "management": "mgt0", "guests": "gst0"}
NAMESPACES = Path("/run/netns")


def check_range(settings: Settings, networks: Networks) -> None:
    """Refuse to begin when the machine already uses one of the addresses for something else."""
    ours = [ipaddress.IPv4Network(f"{network.subnet}.0/24") for network in networks.all]
    for link in json.loads(run(["ip", "-json", "-4", "address"]).stdout):
        if link["ifname"].startswith(settings.prefix):
            continue
        for address in link.get("addr_info", []):
            _refuse_overlap(ours, f"{address['local']}/{address['prefixlen']}", link["ifname"])
    for route in json.loads(run(["ip", "-json", "-4", "route"]).stdout):
        if route["dst"] != "default" and not route.get("dev", "").startswith(settings.prefix):
            _refuse_overlap(ours, route["dst"], route.get("dev", "a route"))


def _refuse_overlap(ours: list[ipaddress.IPv4Network], theirs: str, link: str) -> None:
    network = ipaddress.IPv4Network(theirs, strict=False)
    for own in ours:
        if own.overlaps(network):
            raise LabError(
                f"the address range {own} is taken: {link} has {theirs}",
                "Set KVMOPS_LAB_INSTANCE to another number (1-15), or free the range.",
            )


def links(settings: Settings) -> list[str]:
    """Return the names of the lab's links on the machine."""
    out = run(["ip", "-json", "link"]).stdout
    pattern = re.compile(rf"{settings.prefix}(h\d+|san|s\d)?(mi|mg|gu|li)$")
    return [link["ifname"] for link in json.loads(out) if pattern.match(link["ifname"])]


def namespaces(settings: Settings) -> list[str]:
    """Return the names of the lab's network namespaces."""
    if not NAMESPACES.is_dir():
        return []
    return sorted(path.name for path in NAMESPACES.glob(f"{settings.prefix}-*"))


def make_bridges(settings: Settings, networks: Networks) -> None:
    """Make the three bridges, those that are missing."""
    have = set(links(settings))
    for network in networks.all:
        name = network.bridge(settings.prefix)
        _make_bridge(name, have)
        run(["ip", "address", "replace", f"{network.gateway}/24", "dev", name])


def _make_bridge(name: str, have: set[str]) -> None:
    if name not in have:
        # Without the delay 0 a bridge holds back the traffic of a port for half a minute.
        run(["ip", "link", "add", name, "type", "bridge", "forward_delay", "0", "stp_state", "0"])
    run(["ip", "link", "set", name, "up"])


def make_line_ends(settings: Settings, networks: Networks) -> tuple[str, str]:
    """Make the bridge of the second site, and on each site's bridge a TAP device; return the names of these.

    A program that opens both devices is the line between the sites.
    """
    have = set(links(settings))
    _make_bridge(networks.migration.bridge(settings.prefix, 2), have)
    ends = (networks.migration.line_end(settings.prefix, 1), networks.migration.line_end(settings.prefix, 2))
    for site, end in enumerate(ends, start=1):
        if end not in have:
            run(["ip", "tuntap", "add", "dev", end, "mode", "tap"])
        run(["ip", "link", "set", end, "master", networks.migration.bridge(settings.prefix, site), "up"])
    return ends


def connect_host(settings: Settings, networks: Networks, host: HostPlan) -> None:
    """Make a host's network namespace with its three cables, whatever of it is missing."""
    space = settings.network_namespace(host.name)
    if space not in namespaces(settings):
        # A name without a namespace behind it is what a killed run leaves; `ip netns delete` takes both.
        run(["ip", "netns", "add", space])
    have = set(links(settings))
    for network in networks.all:
        outer = network.link(settings.prefix, host.name)
        if outer not in have:
            inner = INNER[network.purpose]
            run(["ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", space])
        site = host.site if network is networks.migration else 1
        run(["ip", "link", "set", outer, "master", network.bridge(settings.prefix, site), "up"])
    _set_up_inside(space, networks, host)
    limit(settings, networks.migration, host.name, host.link_mbit)


def _set_up_inside(space: str, networks: Networks, host: HostPlan) -> None:
    batch = [
        "link set lo up",
        f"link set {INNER['guests']} up",
        f"link set {GUEST_BRIDGE} up",
        f"link set {SECOND_BRIDGE} up",
        f"link set {INNER['guests']} master {GUEST_BRIDGE}",
    ]
    for network in (networks.migration, networks.management):
        inner = INNER[network.purpose]
        batch += [f"address replace {network.host(host.number)}/24 dev {inner}", f"link set {inner} up"]
    for bridge in (GUEST_BRIDGE, SECOND_BRIDGE):
        if run(["ip", "-n", space, "link", "show", bridge], check=False).returncode:
            batch.insert(0, f"link add {bridge} type bridge forward_delay 0 stp_state 0")
    run(["ip", "-n", space, "-batch", "-"], given="\n".join(batch) + "\n")


def limit(settings: Settings, network: Network, host: str, mbit: float) -> None:
    """Limit the traffic into a host, which leaves the machine's end of the cable; 0 takes the limit away."""
    outer = network.link(settings.prefix, host)
    if mbit:
        rate = f"{int(mbit * 1_000_000)}bit"
        burst = "256kb" if mbit >= 10 else "16kb"
        latency = "50ms" if mbit >= 10 else "400ms"
        run(["tc", "qdisc", "replace", "dev", outer, "root", "tbf", "rate", rate, "burst", burst, "latency", latency])
    else:
        run(["tc", "qdisc", "del", "dev", outer, "root"], check=False)


def disconnect_host(settings: Settings, name: str) -> None:
    """Remove a host's namespace; its cables, the limits on them and its rules go with it."""
    run(["ip", "netns", "delete", settings.network_namespace(name)], check=False)


def remove_all(settings: Settings) -> None:
    """Remove every link and namespace of the lab."""
    for space in namespaces(settings):
        run(["ip", "netns", "delete", space], check=False)
    for link in links(settings):
        run(["ip", "link", "delete", link], check=False)

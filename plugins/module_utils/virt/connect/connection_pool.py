# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: connections that are kept for a whole run, and opened again after they have died.

from __future__ import annotations

import contextlib
import dataclasses
import threading
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.events import EventStream
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import UnansweredError, within

#: A host whose daemon hangs accepts the connection and then says nothing. A slow login takes some seconds.
OPEN_S = 30.0
#: Nobody waits long for a connection to end.
CLOSE_S = 5.0


@dataclasses.dataclass
class Link:
    """An open connection and its events."""

    connection: t.Any
    events: EventStream
    closing: contextlib.ExitStack

    def close(self) -> None:
        """Close it, also when it is dead."""
        self.events.close()
        self.closing.close()


class Connections:
    """One link to each libvirtd of a run. Opening one costs an ssh login, so each is opened once.

    Args:
        read_only: of all of them, for check mode.
    """

    def __init__(self, *, read_only: bool) -> None:
        self._read_only = read_only
        self._lock = threading.Lock()
        self._links: dict[str, Link] = {}
        self._opening: dict[str, threading.Lock] = {}

    def __enter__(self) -> Connections:
        return self

    def __exit__(self, *_exception: t.Any) -> None:
        self.close()

    def get(self, uri: str) -> Link:
        """The link to a libvirtd, opened or opened again as needed.

        Raises: VirtError when it cannot be reached.
        """
        with self._lock:
            gate = self._opening.setdefault(uri, threading.Lock())
        # A slow host must delay only those that want that host.
        with gate:
            link = self._links.get(uri)
            if link and _alive(link):
                return link
            self._forget(uri)
            link = self._open(uri)
            with self._lock:
                self._links[uri] = link
            return link

    def drop_broken(self, uri: str) -> None:
        """Forget a link that claims to be open and answers nothing, so that the next one is opened anew."""
        link = self._links.get(uri)
        if link is None:
            return
        try:
            within(CLOSE_S, link.connection.getLibVersion)
        except (virt.libvirt.libvirtError, UnansweredError):
            self._forget(uri, link)

    def close(self) -> None:
        """Close all of them."""
        for uri in list(self._links):
            self._forget(uri)

    def _forget(self, uri: str, only: Link | None = None) -> None:
        """Close a link; with ``only``, unless another one has taken its place meanwhile."""
        with self._lock:
            link = self._links.get(uri)
            if link is None or (only is not None and link is not only):
                return
            del self._links[uri]
        with contextlib.suppress(virt.libvirt.libvirtError, UnansweredError):
            within(CLOSE_S, link.close)

    def _open(self, uri: str) -> Link:
        """Raises: VirtError when it cannot be reached, or does not answer in time."""
        given_up = threading.Event()

        def opened() -> Link:
            link = self._link(uri)
            if given_up.is_set():
                # The caller has not waited for it.
                link.close()
            return link

        try:
            return t.cast(Link, within(OPEN_S, opened))
        except UnansweredError as error:
            given_up.set()
            raise virt.VirtError(
                refusal(
                    "no_answer",
                    f"{uri} does not answer within {OPEN_S:g} s",
                    "check that host and the network to it, and restart libvirt there if it hangs"
                    " (journalctl -u libvirtd -u virtqemud); guests keep running without it",
                )
            ) from error

    def _link(self, uri: str) -> Link:
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(virt.connect(uri, read_only=self._read_only))
            try:
                events = EventStream(connection)
            except virt.libvirt.libvirtError as error:
                # A daemon that is stopping accepts connections, and nothing else.
                raise virt.VirtError(virt.explain_connection(uri, error), error.get_error_code()) from error
            return Link(connection, events, stack.pop_all())


def _alive(link: Link) -> bool:
    try:
        return bool(link.connection.isAlive())
    except virt.libvirt.libvirtError:
        return False

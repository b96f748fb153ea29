# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the one place that imports libvirt and opens connections.

from __future__ import annotations

import contextlib
import threading
import traceback
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import connect_uri
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

try:
    import libvirt
except ImportError:
    libvirt = None
    IMPORT_ERROR: str | None = traceback.format_exc()
else:
    IMPORT_ERROR = None

# The distribution's python3-libvirt lives with the system's interpreter only.
SYSTEM_INTERPRETERS = ("/usr/libexec/platform-python", "/usr/bin/python3", "/usr/bin/python3.9")

# As often as libvirtd's own peer-to-peer keepalive: a dead peer is noticed after 30 s.
KEEPALIVE_INTERVAL_S = 5
KEEPALIVE_COUNT = 5

_event_loop_lock = threading.Lock()
_event_loop_started = False


class VirtError(Exception):
    """Something libvirt could not do, in words an operator can act on.

    Attributes:
        refusal: code, reason and remedy.
        libvirt_code: libvirt's error number, or None when libvirt was not reached.
    """

    def __init__(self, why: Refusal, libvirt_code: int | None = None) -> None:
        super().__init__(f"{why['reason']}; {why['remedy']}")
        self.refusal = why
        self.libvirt_code = libvirt_code


def require_libvirt(module: AnsibleModule) -> None:
    """Make sure that this process can import libvirt, or end it.

    Starts the module again under an interpreter of the system that has the binding; fails the module with what to
    install if there is none.
    """
    if libvirt is not None:
        return
    # Programs that outlive a module have no Ansible.
    from ansible.module_utils.basic import missing_required_lib
    from ansible.module_utils.common.respawn import has_respawned, probe_interpreters_for_module, respawn_module

    if not has_respawned():
        interpreter = probe_interpreters_for_module(list(SYSTEM_INTERPRETERS), "libvirt")
        if interpreter:
            respawn_module(interpreter)
    module.fail_json(
        msg=missing_required_lib("libvirt", reason="on the hypervisor (Debian and Fedora package python3-libvirt)"),
        exception=IMPORT_ERROR,
    )


def start_event_loop() -> None:
    """Run libvirt's event loop in a daemon thread, once a process. Must come before the connection that needs it."""
    global _event_loop_started
    with _event_loop_lock:
        if _event_loop_started:
            return
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=_turn_event_loop, args=(libvirt,), name="libvirt-events", daemon=True).start()
        _event_loop_started = True


def _turn_event_loop(library: t.Any) -> None:
    while True:
        library.virEventRunDefaultImpl()


@contextlib.contextmanager
def connect(uri: str, *, read_only: bool) -> t.Iterator[t.Any]:
    """Open a connection and close it at the end.

    Args:
        uri: a libvirt URI, such as C(qemu:///system) or C(qemu+ssh://root@h2/system).
        read_only: libvirt then refuses every call that changes something, whatever this code asks for.

    Yields: a ``libvirt.virConnect`` with keepalive, so that a peer that vanished ends calls with an error.

    Raises:
        VirtError: the hypervisor could not be reached.
    """
    fault = connect_uri.fault_of(uri, whose="a host")
    if fault is not None:
        raise VirtError(fault)
    # This collection raises errors in its own words. libvirt would print them to stderr as well.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    start_event_loop()
    try:
        connection = libvirt.openReadOnly(uri) if read_only else libvirt.open(uri)
    except libvirt.libvirtError as error:
        raise VirtError(explain_connection(uri, error), error.get_error_code()) from error
    try:
        # Local and test drivers know no keepalive, and need none.
        with contextlib.suppress(libvirt.libvirtError):
            connection.setKeepAlive(KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT)
        yield connection
    finally:
        with contextlib.suppress(libvirt.libvirtError):
            connection.close()


def explain_connection(uri: str, error: t.Any) -> Refusal:
    """Say why a hypervisor could not be reached and what to look at next."""
    text = str(error).strip()
    lowered = text.lower()
    for marker, code, remedy in CONNECTION_REMEDIES:
        if marker in lowered:
            return refusal(code, f"no connection to {uri}: {text}", remedy)
    return refusal(
        "unreachable", f"no connection to {uri}: {text}", "try it by hand on that host: virsh -c " + uri + " version"
    )


CONNECTION_REMEDIES: tuple[tuple[str, str, str], ...] = (
    (
        "host key verification failed",
        "host_key",
        "add the destination's host key to /etc/ssh/ssh_known_hosts or root's known_hosts on the source host",
    ),
    (
        "permission denied (publickey",
        "ssh_login",
        "let root of the source host log in there: its public key belongs in the destination's authorized_keys",
    ),
    ("cannot find 'ssh'", "no_ssh", "install the ssh client on the source host: libvirtd starts it (openssh-client)"),
    ("could not resolve", "name_unknown", "make the name resolvable on the source host, or use an address in the URI"),
    ("name or service not known", "name_unknown", "make the name resolvable on the source host, or use an address"),
    ("no route to host", "unreachable", "check that the host is up and that the network between the two is"),
    ("connection timed out", "unreachable", "check that the host is up and that no firewall drops the connection"),
    (
        "failed to connect socket to",
        "no_daemon",
        "start libvirt there: systemctl start libvirtd.socket (or virtqemud.socket), and see journalctl -u libvirtd",
    ),
    ("connection refused", "no_daemon", "start libvirt's listener there (libvirtd, virtproxyd, or sshd for qemu+ssh)"),
    ("authentication", "not_permitted", "run as root (become: true), or permit this user in libvirt's polkit rules"),
    ("certificate", "certificate", "check the certificates in /etc/pki/libvirt and /etc/pki/CA on both hosts"),
)

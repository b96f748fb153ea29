# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Which libvirt URIs this collection opens, and whether one keeps what it carries secret.

libvirt's client starts programs that a URI names: C(command) of qemu+ssh and qemu+ext, C(netcat) at the far end
(https://libvirt.org/uri.html). So a URI is read before anything opens it.
"""

from __future__ import annotations

import re
import typing as t
import urllib.parse

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal

#: To another host. C(qemu+ext) is not among them: it runs the program that its C(command) names.
REMOTE_SCHEMES = ("qemu+ssh", "qemu+tls", "qemu+tcp", "qemu+libssh2", "qemu+libssh", "qemu")
#: To the daemon of the same host.
LOCAL_SCHEMES = ("qemu", "qemu+unix")
#: What libvirt's own drivers for tests are called. They start nothing.
_TEST_SCHEME = "test"
#: Query parameters that neither start a program nor lead to another daemon; all but no_verify only choose keys.
SAFE_PARAMETERS = frozenset(
    (
        "keyfile",
        "known_hosts",
        "known_hosts_verify",
        "mode",
        "no_tty",
        "no_verify",
        "pkipath",
        "sshauth",
        "tls_priority",
    )
)
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?|[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]*")
_REMEDY = "give one such as qemu+ssh://root@h2.example.org/system (kvmops_cluster_connect_uri in the inventory)"


def fault_of(uri: t.Any, *, whose: str) -> Refusal | None:
    """Why a URI is not opened; None for one that may be opened.

    Args:
        uri: as an operator or a plan states it.
        whose: what it is the address of, for the text.

    >>> fault_of("qemu+ssh://root@h2/system", whose="h2") is None
    True
    >>> fault_of("qemu+ext:///system?command=/tmp/x", whose="h2")["reason"]
    "the connect URI of h2 has the scheme 'qemu+ext', which is none of qemu+ssh, qemu+tls, qemu+tcp, qemu+libssh2, \
qemu+libssh, qemu, qemu+unix"
    """
    wrong = _wrong(uri)
    return refusal("connect_uri", f"the connect URI of {whose} {wrong}", _REMEDY) if wrong else None


def _wrong(uri: t.Any) -> str | None:
    if not isinstance(uri, str):
        return f"is {type(uri).__name__}, not a text"
    if any(ord(mark) <= 32 or ord(mark) >= 127 for mark in uri):
        return "has blanks or marks that no URI has"
    try:
        parts = urllib.parse.urlsplit(uri)
        # Reading the port checks it.
        host, dummy = parts.hostname, parts.port
    except ValueError as error:
        return f"cannot be read ({error})"
    if parts.scheme == _TEST_SCHEME and not host and not parts.query:
        return None
    return _wrong_scheme(parts.scheme, host) or _wrong_names(parts) or _wrong_query(parts.query)


def _wrong_scheme(scheme: str, host: str | None) -> str | None:
    known = dict.fromkeys((*REMOTE_SCHEMES, *LOCAL_SCHEMES))
    if scheme not in known:
        return f"has the scheme '{scheme}', which is none of {', '.join(known)}"
    if scheme not in (REMOTE_SCHEMES if host else LOCAL_SCHEMES):
        return f"has the scheme '{scheme}' {'with' if host else 'without'} the name of a host"
    return None


def _wrong_names(parts: urllib.parse.SplitResult) -> str | None:
    # A name that begins with '-' would be an option of ssh.
    if parts.hostname and not _HOST.fullmatch(parts.hostname):
        return f"has the host '{parts.hostname}', which is no name and no address"
    if parts.username is not None and not _USER.fullmatch(parts.username):
        return f"has the user '{parts.username}', which is no name of a user"
    return "has a part after '#'" if parts.fragment else None


def _wrong_query(query: str) -> str | None:
    # libvirt also ends a parameter there (virURIParseParams), and Python does not: it would be a part of a value.
    if ";" in query:
        return "has ';' in its query"
    unsafe = sorted({name for name, _value in urllib.parse.parse_qsl(query, keep_blank_values=True)} - SAFE_PARAMETERS)
    if unsafe:
        return f"has the query parameter '{unsafe[0]}', which is none of {', '.join(sorted(SAFE_PARAMETERS))}"
    return None


def exposes(uri: str) -> str | None:
    """Why what a URI carries is not kept secret, or may go to an impostor, in words; None where it is kept.

    >>> exposes("qemu+tcp://h2/system")
    'qemu+tcp neither encrypts nor proves which host answers'
    """
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme == "qemu+tcp":
        return "qemu+tcp neither encrypts nor proves which host answers"
    query = dict(urllib.parse.parse_qsl(parts.query.replace(";", "&"), keep_blank_values=True))
    if query.get("no_verify", "0") not in ("0", ""):
        return "no_verify accepts any host that answers"
    if query.get("known_hosts_verify", "normal").lower() == "ignore":
        return "known_hosts_verify=ignore accepts any host that answers"
    return None


def unencrypted(uri: str) -> Refusal | None:
    """Why no move that must be encrypted goes by way of a URI; None where one may."""
    why = exposes(uri)
    if why is None:
        return None
    return refusal(
        "control_unencrypted",
        f"encryption is required, and what libvirt says to {urllib.parse.urlsplit(uri).hostname} is not kept secret: "
        f"{why}",
        "use qemu+ssh:// or qemu+tls:// with certificates in kvmops_cluster_connect_uri, or permit encryption: off",
    )

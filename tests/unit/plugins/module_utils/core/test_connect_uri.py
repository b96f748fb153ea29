# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import connect_uri


@pytest.mark.parametrize(
    "uri",
    [
        "qemu:///system",
        "qemu:///session",
        "qemu+unix:///system",
        "qemu://h2/system",
        "qemu+ssh://root@h2.example.org/system",
        "qemu+ssh://root@h2:2222/system",
        "qemu+ssh://[fd00::12]/system",
        "qemu+tls://h2/system",
        "qemu+tcp://h2/system",
        "qemu+ssh://kvmops@h2/system?keyfile=/root/.ssh/kvmops&no_tty=1",
        "test:///default",
    ],
)
def test_addresses_of_daemons_are_opened(uri):
    assert connect_uri.fault_of(uri, whose="h2") is None


@pytest.mark.parametrize(
    ("uri", "what"),
    [
        ("qemu+ext:///system?command=/tmp/x", "has the scheme 'qemu+ext', which is none of "),
        ("qemu+ssh://root@h2/system?command=/tmp/x", "has the query parameter 'command', which is none of keyfile, "),
        ("qemu+ssh://root@h2/system?no_tty=1&netcat=/tmp/x", "has the query parameter 'netcat', which is none of "),
        ("qemu+ssh://root@h2/system?command", "has the query parameter 'command', which is none of "),
        ("qemu+ssh://root@h2/system?%63ommand=/tmp/x", "has the query parameter 'command', which is none of "),
        ("qemu+ssh://root@h2/system?no_tty=1;command=/tmp/x", "has ';' in its query"),
        ("qemu+unix:///system?socket=/tmp/x", "has the query parameter 'socket', which is none of "),
        ("qemu+ssh://-oProxyCommand=x/system", "has the host '-oproxycommand=x', which is no name and no address"),
        ("qemu+ssh://-oProxyCommand=x@h2/system", "has the user '-oProxyCommand=x', which is no name of a user"),
        ("qemu+ssh://root@h2;id/system", "has the host 'h2;id', which is no name and no address"),
        ("qemu+ssh://root@h2:port/system", "cannot be read ("),
        ("qemu+ssh://[fd00::12/system", "cannot be read ("),
        ("qemu+ssh:///system", "has the scheme 'qemu+ssh' without the name of a host"),
        ("qemu+unix://h2/system", "has the scheme 'qemu+unix' with the name of a host"),
        ("qemu+ssh://root@h2/system#x", "has a part after '#'"),
        ("qemu+ssh://root@h2/sys tem", "has blanks or marks that no URI has"),
        ("qemu+ssh://root@h2/system\n", "has blanks or marks that no URI has"),
        ("qemu+ssh://root@h\u0131/system", "has blanks or marks that no URI has"),
        ("test://h2/default", "has the scheme 'test', which is none of "),
        ("xen:///system", "has the scheme 'xen', which is none of "),
        ("", "has the scheme '', which is none of "),
        (None, "is NoneType, not a text"),
    ],
)
def test_what_may_start_a_program_is_refused(uri, what):
    fault = connect_uri.fault_of(uri, whose="h2")
    assert fault["code"] == "connect_uri"
    assert fault["reason"].startswith(f"the connect URI of h2 {what}")
    assert fault["remedy"].startswith("give one such as qemu+ssh://root@h2.example.org/system")


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("qemu+ssh://root@h2/system", None),
        ("qemu+tls://h2/system", None),
        ("qemu+tls://h2/system?no_verify=0", None),
        ("qemu+tls://h2/system?no_verify=1", "no_verify accepts any host that answers"),
        ("qemu+ssh://root@h2/system?no_verify", None),
        ("qemu+tcp://h2/system", "qemu+tcp neither encrypts nor proves which host answers"),
        (
            "qemu+libssh2://h2/system?known_hosts_verify=ignore",
            "known_hosts_verify=ignore accepts any host that answers",
        ),
    ],
)
def test_what_is_not_kept_secret_is_known(uri, why):
    assert connect_uri.exposes(uri) == why


def test_a_parameter_after_a_semicolon_exposes_as_well():
    assert (
        connect_uri.exposes("qemu+ssh://h2/system?mode=auto;no_verify=1") == "no_verify accepts any host that answers"
    )

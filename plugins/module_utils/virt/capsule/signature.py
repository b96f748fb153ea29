# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: signatures of capsules, by ssh-keygen: no host needs anything else for it.

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.acceptance import Signature
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError

#: What is signed: a signature for something else, made with the same key, does not count.
NAMESPACE = "kvmops.capsule"
#: Stands for whoever has one of the named keys.
_SIGNER = "signer"
_KEY = re.compile(r"(?:sk-)?(?:ssh|ecdsa)[a-z0-9@.-]{3,60} [A-Za-z0-9+/]{40,4000}={0,3}")


def signed(data: bytes, key_path: str) -> bytes:
    """The signature of a document.

    Args:
        data: the document.
        key_path: file of a private key of ssh without a passphrase, or of a public key that ssh-agent has.

    Raises:
        CapsuleError: it cannot be signed with this key.
    """
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", key_path]
    done = _run(command, data)
    if done.returncode or not done.stdout:
        raise CapsuleError(
            "not_signed",
            f"the capsule cannot be signed with {key_path}: {_said(done)}",
            f"see that root can read {key_path} and that it has no passphrase (ssh-keygen -y -f {key_path})",
        )
    return done.stdout


def verified(data: bytes, signature: bytes | None, keys: t.Sequence[str]) -> Signature:
    """What the signature of a document is worth.

    Args:
        data: the document.
        signature: its signature; None or empty: it has none.
        keys: public keys that may sign, each as in C(id_ed25519.pub). With none, only that the document is as it was
            signed is proved, and not by whom.

    Raises:
        CapsuleError: a key is none.
    """
    if not signature:
        return Signature("none")
    with tempfile.TemporaryDirectory(prefix="kvmops-signature-") as folder:
        path = os.path.join(folder, "signature")
        with open(path, "wb") as file:
            file.write(signature)
        command = ["ssh-keygen", "-Y", "check-novalidate", "-n", NAMESPACE, "-s", path]
        if keys:
            allowed = os.path.join(folder, "allowed")
            with open(allowed, "w", encoding="ascii") as text:
                text.writelines(f'{_SIGNER} namespaces="{NAMESPACE}" {key}\n' for key in map(_checked, keys))
            command = ["ssh-keygen", "-Y", "verify", "-n", NAMESPACE, "-s", path, "-f", allowed, "-I", _SIGNER]
        done = _run(command, data)
    return Signature("good" if done.returncode == 0 else "bad", _said(done))


def _checked(key: str) -> str:
    """Type and content of a public key, without its comment."""
    words = " ".join(key.split()[:2])
    if not _KEY.fullmatch(words):
        raise CapsuleError(
            "bad_key",
            f"{key[:60]!r} is no public key of ssh",
            "give the content of the .pub file of a key that may sign, such as: ssh-ed25519 AAAA…",
        )
    return words


def _run(command: t.Sequence[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, input=data, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise CapsuleError(
            "ssh_missing", "there is no ssh-keygen on this host", "install openssh-client (Debian) or openssh"
        ) from error


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = (done.stderr + b"\n" + done.stdout).decode("utf-8", "replace").split("\n")
    return next((line.strip()[:200] for line in lines if line.strip()), f"exit status {done.returncode}")

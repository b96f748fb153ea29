# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: signs the document of a capsule with an ssh key.

from __future__ import annotations

import subprocess

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.acceptance import SIGNATURE_NAMESPACE
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError


def signed(data: bytes, key: str) -> bytes:
    """The signature of a document.

    Args:
        data: the document.
        key: file with a private key, or with a public key whose private one an agent has.

    Raises:
        CapsuleError: it cannot be signed.
    """
    command = ["ssh-keygen", "-Y", "sign", "-q", "-f", key, "-n", SIGNATURE_NAMESPACE]
    try:
        done = subprocess.run(command, input=data, capture_output=True, check=False)
        said = done.stderr.decode("utf-8", "replace").strip()
    except OSError as error:
        raise _not_signed(key, error.strerror or str(error)) from error
    if done.returncode or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        raise _not_signed(key, said or f"ssh-keygen ended with {done.returncode}")
    return done.stdout


def _not_signed(key: str, why: str) -> CapsuleError:
    return CapsuleError(
        "not_signed",
        f"the capsule cannot be signed with {key}: {why}",
        "name the file of an ssh key without a passphrase that root of this host can read (sign_with)",
    )

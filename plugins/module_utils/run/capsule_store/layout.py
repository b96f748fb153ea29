# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: where each thing is in the store of a host (docs/contracts.md, "Capsule store").

from __future__ import annotations

import os
import re

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import IMAGE_PREFIX
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.fields import shown
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.receive_state import is_image_name
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image.image_record import FORMATS

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NUMBER = re.compile(r"[1-9][0-9]{0,15}")
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")

#: Images and whatever is on the way to them must be passed by QEMU, which is not root; all else is for root alone.
PASSABLE, PRIVATE = 0o711, 0o700
DIRECTORIES = (
    ("images", PASSABLE),
    ("index", PRIVATE),
    ("manifests", PRIVATE),
    ("guests", PRIVATE),
    ("receiving", PRIVATE),
    ("runs", PRIVATE),
    ("uses", PRIVATE),
)


class Layout:
    """Paths in a store. Nothing that is not named properly gets a path, so no name leads out of the store.

    Args:
        directory: of the store.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def inside(self, *parts: str) -> str:
        """The path of something in the store."""
        return os.path.join(self.directory, *parts)

    def image(self, name: str, form: str) -> str:
        """Where the store keeps an image of its own."""
        if form not in FORMATS:
            raise CapsuleError(
                "bad_format", f"the format {shown(form)} is not known", f"use one of {', '.join(FORMATS)}"
            )
        return self.inside("images", f"{digits_of(name)}.{form}")

    def record(self, name: str) -> str:
        """The record of an image."""
        return self.inside("index", f"{digits_of(name)}.json")

    def manifest(self, name: str) -> str:
        """The block manifest of an image."""
        return self.inside("manifests", digits_of(name))

    def guest(self, uuid: str) -> str:
        """The directory of a guest."""
        if not _UUID.fullmatch(str(uuid)):
            raise CapsuleError(
                "bad_uuid", f"{shown(uuid)} is no UUID of a guest", "see the UUID of the guest: virsh domuuid NAME"
            )
        return self.inside("guests", uuid)

    def capsule(self, uuid: str, number: int) -> str:
        """The directory of a capsule."""
        if not is_number(str(number)):
            raise CapsuleError(
                "bad_number",
                f"{shown(number)} is no number of a capsule",
                "numbers begin with 1; capsule_info shows them",
            )
        return os.path.join(self.guest(uuid), str(number))

    def known(self, uuid: str) -> str:
        """What the host knows of a guest, whatever becomes of its capsules."""
        return os.path.join(self.guest(uuid), "known.json")

    def receiving(self, name: str) -> str:
        """The directory of an image that has not come as a whole."""
        return self.inside("receiving", digits_of(name))

    def run(self, name: str) -> str:
        """The record of a run."""
        if not _RUN.fullmatch(str(name)):
            raise CapsuleError(
                "bad_run",
                f"{shown(name)} cannot name a record of a run",
                "use letters, digits, dots, dashes and underscores",
            )
        return self.inside("runs", f"{name}.json")


def digits_of(name: str) -> str:
    """The 64 digits in the name of an image.

    Raises:
        CapsuleError: it is no such name.
    """
    if not is_image_name(name):
        raise CapsuleError(
            "bad_image_name",
            f"{shown(name)} is no name of an image",
            f"use {IMAGE_PREFIX} and 64 hexadecimal digits; capsule_info shows the names of all images",
        )
    return name[len(IMAGE_PREFIX) :]


def is_digits(text: str) -> bool:
    """Whether this is the second part of the name of an image."""
    return is_image_name(IMAGE_PREFIX + text)


def is_uuid(text: str) -> bool:
    """Whether this may name the directory of a guest."""
    return _UUID.fullmatch(text) is not None


def is_number(text: str) -> bool:
    """Whether this may name the directory of a capsule."""
    return _NUMBER.fullmatch(text) is not None

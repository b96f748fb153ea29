# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Capsules for tests."""

from __future__ import annotations

import copy


def image(digit):
    return "blocks:" + str(digit) * 64


def sha(digit):
    return "sha256:" + str(digit) * 64


CAPSULE = {
    "schema": "kvmops.capsule/1",
    "guest": {"name": "db1", "uuid": "0b7fd2f5-8a35-5b62-9ce9-7e4d2b1c9a10"},
    "number": 7,
    "parent": {"number": 6, "digest": sha(6)},
    "made_at": "2026-11-24T02:00:00.120Z",
    "made_on": "h1",
    "trust_domain": "default",
    "consistency": "memory",
    "versions": {"libvirt": "11.3.0", "qemu": "10.0.13"},
    "arch": "x86_64",
    "machine": "pc-q35-10.0",
    "definition": {"size_bytes": 6120, "digest": sha(1)},
    "nvram": {"size_bytes": 540672, "digest": sha(2)},
    "tpm": None,
    "memory": {"format": "sparse", "size_bytes": 107000000, "image": image(3)},
    "disks": [
        {
            "target": "vda",
            "size_bytes": 67108864,
            "image": image(5),
            "base": image(4),
            "layers": [{"number": 6, "image": image("a")}, {"number": 7, "image": image(5)}],
        }
    ],
}


def capsule(**changes):
    """A capsule with other values for some of its keys."""
    return {**copy.deepcopy(CAPSULE), **changes}

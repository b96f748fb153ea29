# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Where an image differs from what its block manifest says, and which images a capsule lacks."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import BlockManifest
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import Capsule, images_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import BLOCK_BYTES, SEGMENT_BYTES

#: More places than these tell nobody anything.
MOST_PLACES = 20


def differing(wanted: BlockManifest, found: BlockManifest) -> list[tuple[int, int]]:
    """The bytes in which two images differ, whole blocks each, as start and length; the first 20 places.

    Args:
        wanted: the manifest that was made when the image was sealed.
        found: that of the image as it is now.
    """
    places: list[tuple[int, int]] = []
    for number in range(max(len(wanted.segments), len(found.segments))):
        if number >= len(wanted.segments) or number >= len(found.segments):
            _add(places, number * SEGMENT_BYTES, SEGMENT_BYTES)
            continue
        one, other = wanted.segments[number], found.segments[number]
        if (one.digest, one.blocks) != (other.digest, other.blocks):
            for block, (before, now) in enumerate(zip(one.listed(), other.listed())):
                if before != now:
                    _add(places, number * SEGMENT_BYTES + block * BLOCK_BYTES, BLOCK_BYTES)
        if len(places) > MOST_PLACES:
            break
    return places[:MOST_PLACES]


def _add(places: list[tuple[int, int]], start: int, length: int) -> None:
    if places and sum(places[-1]) == start:
        places[-1] = (places[-1][0], places[-1][1] + length)
    else:
        places.append((start, length))


def parts_of(capsule: Capsule) -> dict[str, str]:
    """The names of all images that a capsule is made of, by what they are: disks, memory, and bases.

    Layers between a base and a disk are not among them: they may have been merged.
    """
    parts = images_of(capsule)
    for disk in capsule["disks"]:
        if disk["base"] is not None:
            parts[f"base of {disk['target']}"] = disk["base"]
    return parts


def needed_where(capsule: Capsule, backing: t.Mapping[str, str | None]) -> dict[str, str]:
    """The names of all images that one host must have to start a capsule, by what they are.

    A disk that came to a host without its base came in full, and stands on nothing there.

    Args:
        capsule: the capsule.
        backing: for each image that the host has, the one on which it stands.
    """
    parts = parts_of(capsule)
    for disk in capsule["disks"]:
        image, base = disk["image"], disk["base"]
        chain = _chain(image, backing)
        # Where a layer below is not known, nobody can say that the base is not needed.
        whole = chain[-1] in backing and backing[chain[-1]] is None
        if base is not None and whole and base not in chain:
            del parts[f"base of {disk['target']}"]
    return parts


def _chain(image: str, backing: t.Mapping[str, str | None]) -> list[str]:
    """An image and those below it, as far as they are known."""
    found: list[str] = []
    below: str | None = image
    while below is not None and below not in found:
        found.append(below)
        below = backing.get(below)
    return found


def missing(capsule: Capsule, backing: t.Mapping[str, str | None]) -> list[dict[str, str]]:
    """The images that a host lacks of a capsule, each with C(part) and C(image).

    Args:
        capsule: the capsule.
        backing: for each sound image that the host has, the one on which it stands.
    """
    parts = needed_where(capsule, backing)
    return [{"part": part, "image": image} for part, image in parts.items() if image not in backing]

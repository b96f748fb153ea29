# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Which capsules and images of a host are not needed any more, and when they may be removed.

Two steps: what is not needed is marked; what is still not needed after a delay is removed. What is
needed again in between loses its mark. A document is removed before the images that it names, so that a run that dies
leaves images that nobody needs, and never a capsule that lacks a part.
"""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import (
    Capsule,
    bases_of,
    images_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal


class Rule(t.NamedTuple):
    """What the operator wants to keep of each guest.

    Attributes:
        keep_last: so many capsules with the highest numbers, at least 1.
        keep_daily: of so many last days that have any, the last capsule of each day (UTC).
        bases: whether bases that no capsule and no guest needs are removed, too.
        delay_s: seconds from the mark to the removal.
    """

    keep_last: int
    keep_daily: int = 0
    bases: bool = False
    delay_s: int = 86400


class Stored(t.NamedTuple):
    """What a host has.

    Attributes:
        capsules: documents, by digest.
        images: digests of all images here, layers and memory included.
        bases: those of them that were sealed as bases.
        in_use: why a capsule or an image is in use, by digest: a guest runs on it, it is being sent, a guest elsewhere
            is being filled from it.
        unreadable: files that should hold a capsule and cannot be read.
        below: the image that each image stands on, by name: what a layer does not have, its file takes from there.
    """

    capsules: t.Mapping[str, Capsule]
    images: t.AbstractSet[str]
    bases: t.AbstractSet[str]
    in_use: t.Mapping[str, str]
    unreadable: t.Sequence[str] = ()
    below: t.Mapping[str, str] = {}


class Needs(t.NamedTuple):
    """Why something stays, by digest; and what nobody needs, in the order in which it is removed."""

    kept: dict[str, str]
    unneeded: list[str]


class Sweep(t.NamedTuple):
    """What is removed now, in this order, and the times of the marks that stay."""

    remove: list[str]
    marks: dict[str, datetime.datetime]


def refusals(stored: Stored, rule: Rule) -> list[Refusal]:
    """Why nothing may be removed at all."""
    found = []
    if rule.keep_last < 1 or rule.keep_daily < 0 or rule.delay_s < 0:
        found.append(
            refusal(
                "bad_option",
                f"keep_last is {rule.keep_last}, keep_daily {rule.keep_daily} and delay_s {rule.delay_s}:"
                " the least are 1, 0 and 0",
                "set keep_last to 1 or more; to remove the last capsule of a guest, remove its directory by hand",
            )
        )
    return found + [
        refusal(
            "capsule_unreadable",
            f"{file} cannot be read, so nobody knows which images it needs",
            "send that capsule again, or move the file away if it is not wanted any more; then prune again",
        )
        for file in stored.unreadable
    ]


def needs(stored: Stored, rule: Rule) -> Needs:
    """What is needed, and why.

    Raises:
        CapsuleError: nothing may be removed at all.
    """
    refused = refusals(stored, rule)
    if refused:
        raise CapsuleError(**refused[0])
    capsules = _kept_capsules(stored, rule)
    images = {digest: why for digest, why in stored.in_use.items() if digest not in stored.capsules}
    for digest in capsules:
        document = stored.capsules[digest]
        why = f"capsule {document['number']} of {document['guest']['name']} needs it"
        for image in {*images_of(document).values(), *bases_of(document)}:
            images.setdefault(image, why)
    if not rule.bases:
        for image in stored.bases:
            images.setdefault(image, "it is a base, and bases are not pruned")
    _keep_what_is_below(images, stored.below)
    unneeded = [digest for digest in _by_age(stored.capsules) if digest not in capsules]
    unneeded += sorted(stored.images - set(images), key=lambda image: (-_depth(image, stored.below), image))
    return Needs({**capsules, **{image: why for image, why in images.items() if image in stored.images}}, unneeded)


def _keep_what_is_below(images: dict[str, str], below: t.Mapping[str, str]) -> None:
    for image in list(images):
        top, why = image, images[image]
        while top in below and below[top] not in images:
            top = below[top]
            images[top] = f"an image stands on it: {why}"


def _depth(image: str, below: t.Mapping[str, str]) -> int:
    """How many images it stands on: what stands on another one is removed before that."""
    seen: set[str] = set()
    while image in below and image not in seen:
        seen.add(image)
        image = below[image]
    return len(seen)


def _kept_capsules(stored: Stored, rule: Rule) -> dict[str, str]:
    kept = {digest: why for digest, why in stored.in_use.items() if digest in stored.capsules}
    guests: dict[str, list[str]] = {}
    for digest in _by_age(stored.capsules):
        guests.setdefault(stored.capsules[digest]["guest"]["uuid"], []).append(digest)
    for digests in guests.values():
        for digest in digests[-rule.keep_last :]:
            kept.setdefault(
                digest, f"it is one of the last {rule.keep_last}" if rule.keep_last > 1 else "it is the last"
            )
        days = {stored.capsules[digest]["made_at"][:10]: digest for digest in digests}
        for day in sorted(days)[len(days) - min(len(days), rule.keep_daily) :]:
            kept.setdefault(days[day], f"it is the last of {day}")
    return kept


def _by_age(capsules: t.Mapping[str, Capsule]) -> list[str]:
    """Digests, the lowest number first. Numbers only grow; a clock may be wrong."""
    return sorted(capsules, key=lambda digest: (capsules[digest]["number"], digest))


def sweep(
    unneeded: t.Sequence[str], marks: t.Mapping[str, datetime.datetime], now: datetime.datetime, delay_s: int
) -> Sweep:
    """What may be removed now of what is not needed.

    Args:
        unneeded: see L(Needs).
        marks: when each was marked by an earlier run. A mark from the future counts as one of now: a clock was wrong.
        now: the time, with its zone.
        delay_s: seconds from the mark to the removal.
    """
    remove, kept = [], {}
    for digest in unneeded:
        marked = min(marks.get(digest, now), now)
        if digest in marks and now - marked >= datetime.timedelta(seconds=delay_s):
            remove.append(digest)
        else:
            kept[digest] = marked
    return Sweep(remove, kept)

# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What must travel so that the far end has an image: by block, from the manifests of what the far end has.

The far end starts from one of its images, the ground, which is cut or grown with zeros to the size of the new image.
Each block of the new image is then kept as the ground has it, made zero, copied from an image that the far end has, or
sent. Digests of blocks propose this; the far end counts a segment as received when the digest of its content is right.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import BlockManifest, bytes_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import (
    BLOCKS_PER_SEGMENT,
    blocks_in,
    zero_segment,
)

KEEP, ZERO, COPY, SEND = "keep", "zero", "copy", "send"

#: What a source is, for the table of bytes.
BASE, PREVIOUS = "base", "previous"


class Source(t.NamedTuple):
    """An image that the far end has.

    Attributes:
        kind: C(BASE) or C(PREVIOUS), an earlier capsule.
        manifest: our own manifest of it. What the far end says is its digest, and nothing more.
    """

    kind: str
    manifest: BlockManifest


class Run(t.NamedTuple):
    """Blocks in a row to which the same happens.

    Attributes:
        kind: C(KEEP), C(ZERO), C(COPY) or C(SEND).
        first: number of the first block in the image.
        blocks: how many.
        source: number of the source to copy from, in C(Delta.sources).
        source_first: number of its first block.
    """

    kind: str
    first: int
    blocks: int
    source: int = 0
    source_first: int = 0


class SegmentDelta(t.NamedTuple):
    """What happens to the blocks of a segment that is not as in the ground; the runs have all its blocks, in order."""

    number: int
    digest: bytes
    runs: tuple[Run, ...]


class Delta:
    """What must travel.

    Args:
        image, sources: see below.
        begun: name of the ground (or None) from which the far end has begun to make the image; a tuple of one. None: it
            has not begun, and the best ground is found.

    Attributes:
        image: the manifest of the image.
        sources: what the far end has; the ground is the first one, where there is one. Copies are made from these as
            they are, and not from what the far end has made of its ground so far.
        ground: None: the far end starts from zeros, which are nearer to the image than any source.
        changed: numbers of the segments that are not as in the ground, in order.
    """

    def __init__(
        self, image: BlockManifest, sources: t.Sequence[Source], begun: tuple[str | None] | None = None
    ) -> None:
        best = best_ground(image, sources)
        if begun is not None:
            names = [source.manifest.name for source in sources]
            best = None if begun[0] is None else names.index(begun[0])
        self.image = image
        self.sources = list(sources)
        self.ground: BlockManifest | None = None
        if best is not None:
            self.sources.insert(0, self.sources.pop(best))
            self.ground = self.sources[0].manifest
        self.changed = tuple(
            number
            for number, segment in enumerate(image.segments)
            if ground_digest(self.ground, image.size_bytes, number) != segment.digest
        )
        self._places = self._found_elsewhere()

    def segments(self, skip: t.Container[int] = ()) -> t.Iterator[SegmentDelta]:
        """What happens to each segment that is not as in the ground, except those that are to be skipped."""
        for number in self.changed:
            if number not in skip:
                yield SegmentDelta(number, self.image.segments[number].digest, tuple(self._runs(number)))

    def _runs(self, number: int) -> t.Iterator[Run]:
        run: Run | None = None
        for one in self._blocks(number):
            if run and _continues(run, one):
                run = run._replace(blocks=run.blocks + 1)
                continue
            if run:
                yield run
            run = one
        if run:
            yield run

    def _blocks(self, number: int) -> t.Iterator[Run]:
        at = number * BLOCKS_PER_SEGMENT
        before = ground_blocks(self.ground, number, self.image.blocks_of(number))
        for block, (wanted, has) in enumerate(zip(self.image.segments[number].listed(), before), at):
            if wanted == has:
                yield Run(KEEP, block, 1)
            elif wanted is None:
                yield Run(ZERO, block, 1)
            elif wanted in self._places:
                yield Run(COPY, block, 1, *self._places[wanted])
            else:
                yield Run(SEND, block, 1)

    def _found_elsewhere(self) -> dict[bytes, tuple[int, int]]:
        """Source and block for each block that is not as in the ground but is somewhere at the far end.

        The blocks that are wanted are kept in memory and not those of the sources, as there are fewer of them.
        """
        wanted: set[bytes] = set()
        for number in self.changed:
            before = ground_blocks(self.ground, number, self.image.blocks_of(number))
            pairs = zip(self.image.segments[number].listed(), before)
            wanted.update(one for one, has in pairs if one is not None and one != has)
        places: dict[bytes, tuple[int, int]] = {}
        for source, (dummy, manifest) in enumerate(self.sources):
            for number, segment in enumerate(manifest.segments):
                if not segment.is_zero and len(places) < len(wanted):
                    for block, one in enumerate(segment.listed(), number * BLOCKS_PER_SEGMENT):
                        if one is not None and one in wanted:
                            places.setdefault(one, (source, block))
        return places


def _continues(run: Run, one: Run) -> bool:
    if run.kind != one.kind or run.source != one.source:
        return False
    return run.kind != COPY or one.source_first == run.source_first + run.blocks


def ground_digest(ground: BlockManifest | None, size_bytes: int, number: int) -> bytes | None:
    """The digest that a segment has in the ground once that has the size of the image.

    None: the ground ends within the segment, or the image does. Nobody has hashed that, so it counts as changed.
    """
    length = bytes_of(size_bytes, number)
    there = 0 if ground is None else max(0, bytes_of(ground.size_bytes, number))
    if not there:
        return zero_segment(blocks_in(length)).digest
    return ground.segments[number].digest if ground is not None and there == length else None


def ground_blocks(ground: BlockManifest | None, number: int, blocks: int) -> list[bytes | None]:
    """The kept digests of so many blocks of a segment in the ground; None for zeros and for what is beyond its end."""
    has = ground.segments[number].listed() if ground is not None and number < len(ground.segments) else []
    return (has + [None] * blocks)[:blocks]


def best_ground(image: BlockManifest, sources: t.Sequence[Source]) -> int | None:
    """Number of the source from which the fewest blocks differ; None where zeros are as good as any of them."""
    best, least = None, differing_blocks(image, None)
    for number, source in enumerate(sources):
        count = differing_blocks(image, source.manifest)
        if count < least:
            best, least = number, count
    return best


def differing_blocks(image: BlockManifest, ground: BlockManifest | None) -> int:
    """How many blocks of an image are not as in a ground."""
    count = 0
    for number, segment in enumerate(image.segments):
        if ground_digest(ground, image.size_bytes, number) != segment.digest:
            before = ground_blocks(ground, number, segment.blocks)
            count += sum(1 for wanted, has in zip(segment.listed(), before) if wanted != has)
    return count

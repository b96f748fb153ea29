# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documents that are nearly right, and bytes that were: what fuzz tests give to readers.

`make check` gives each reader a few, always the same ones; `make soak NAME=fuzz` gives it thousands.
"""

from __future__ import annotations

import copy
import os
import random
import typing as t

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ansible_collections.kvmops.cluster.tests.unit import hostile

#: `make soak NAME=fuzz` sets it.
THOROUGH = bool(os.environ.get("KVMOPS_FUZZ"))
#: Generated inputs of each reader, and byte mutations of each: of forty of these, 100,000 together.
EXAMPLES = 5000 if THOROUGH else 10
MUTATIONS = 4000 if THOROUGH else 20

_ODD_TEXTS = ("", "\x1b[2J", "a\nb", "\u202e", "\ud800", "\ufffe", "x" * 300, "-", "../..", "{{ 1 }}", "@a", "NaN")
_NUMBERS = (0, -1, 1, 2**31, 2**63, 10**19, 0.5, -0.5, 1e308)


def values() -> st.SearchStrategy[t.Any]:
    """JSON values, odd ones among them."""
    scalars = st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from(_NUMBERS),
        st.integers(-5, 5),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(_ODD_TEXTS),
        st.text(max_size=5),
    )
    return st.recursive(
        scalars,
        lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=4), parts, max_size=3),
        max_leaves=5,
    )


@st.composite
def mutated(draw: t.Any, documents: t.Sequence[t.Any]) -> t.Any:
    """One of the documents, in which a few parts were replaced, removed, repeated or given to another key."""
    document = copy.deepcopy(draw(st.sampled_from(documents)))
    for dummy in range(draw(st.integers(1, 4))):
        places = list(hostile.places(document))
        if not places:
            break
        *way, last = draw(st.sampled_from(places))
        parent = document
        for key in way:
            parent = parent[key]
        how = draw(st.sampled_from(("replace", "replace", "near", "remove", "repeat", "rename")))
        if how == "remove":
            del parent[last]
        elif how == "repeat" and isinstance(parent, list):
            parent.insert(last, copy.deepcopy(parent[last]))
        elif how == "rename" and isinstance(parent, dict):
            parent[draw(st.text(max_size=4))] = parent.pop(last)
        else:
            parent[last] = draw(_like(parent[last]) if how == "near" else values())
    return document


def _like(value: t.Any) -> st.SearchStrategy[t.Any]:
    """Values of the same kind, which get further."""
    if isinstance(value, bool):
        return st.just(not value)
    if isinstance(value, (int, float)):
        return st.sampled_from(_NUMBERS) | st.integers(0, 2**40)
    if isinstance(value, str):
        return st.sampled_from((*_ODD_TEXTS, *hostile.NAMES)) | st.text(max_size=8)
    return values()


def fuzzed(*strategies: st.SearchStrategy[t.Any]) -> t.Callable[[t.Callable[..., None]], t.Callable[..., None]]:
    """Run a test with what is generated; always the same inputs, so that a failure comes again."""

    def decorate(test: t.Callable[..., None]) -> t.Callable[..., None]:
        kept = settings(
            max_examples=EXAMPLES,
            derandomize=True,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        return t.cast("t.Callable[..., None]", kept(given(*strategies)(test)))

    return decorate


def byte_mutations(data: bytes, seed: str) -> t.Iterator[bytes]:
    """The bytes again and again, each time with a few of them flipped, cut out, repeated or replaced."""
    chance = random.Random(seed)
    for dummy in range(MUTATIONS):
        body = bytearray(data)
        for dummy in range(chance.randint(1, 4)):
            at, length = chance.randrange(len(body) + 1), chance.randint(0, 8)
            how = chance.randrange(4)
            if how == 0 and at < len(body):
                body[at] ^= 1 << chance.randrange(8)
            elif how == 1:
                del body[at : at + length]
            elif how == 2:
                body[at:at] = body[at : at + length * 8]
            else:
                body[at : at + length] = chance.randbytes(length)
        yield bytes(body)

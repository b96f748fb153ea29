# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import shape

PERSON = shape.mapping(
    {"name": shape.text(r"[a-z]+", "small letters"), "age": shape.whole(0)},
    {"height": shape.or_null(shape.number(0.5)), "friends": shape.list_of(shape.text()), "is_well": shape.truth},
)
RIGHT = {"name": "ann", "age": 5}


@pytest.mark.parametrize(
    "value", [RIGHT, {**RIGHT, "height": None}, {**RIGHT, "height": 1, "friends": ["bob"], "is_well": True}]
)
def test_what_fits_passes(value):
    PERSON(value, "person")


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ([], "person must be a mapping, not a list"),
        ({"name": "ann"}, "person.age is missing"),
        ({**RIGHT, "name": "Ann"}, "person.name must be small letters"),
        ({**RIGHT, "name": 5}, "person.name must be a text, not a whole number"),
        ({**RIGHT, "age": -1}, "person.age must be 0 or more, not -1"),
        ({**RIGHT, "age": True}, "person.age must be a whole number, not true"),
        ({**RIGHT, "age": 1.5}, "person.age must be a whole number, not a number"),
        ({**RIGHT, "height": float("nan")}, "person.height must be a number, not nan"),
        ({**RIGHT, "height": 0.25}, "person.height must be 0.5 or more, not 0.25"),
        ({**RIGHT, "friends": ["bob", None]}, "person.friends[1] must be a text, not null"),
        ({**RIGHT, "is_well": 1}, "person.is_well must be true or false, not a whole number"),
        ({**RIGHT, "shoe": 1}, "person.shoe is unknown"),
        ({**RIGHT, 7: 1}, "person has the key 7, which is no text"),
    ],
)
def test_the_first_fault_is_told_with_its_place(value, error):
    with pytest.raises(shape.ShapeError) as caught:
        PERSON(value, "person")
    assert str(caught.value) == error


def test_other_shapes():
    shape.either(shape.truth, shape.number())(2, "it")
    with pytest.raises(shape.ShapeError, match=r"^it must be a number, not a text$"):
        shape.either(shape.truth, shape.number())("2", "it")
    with pytest.raises(shape.ShapeError, match=r"^it must be one of a, b, not 'c'$"):
        shape.one_of("a", "b")("c", "it")
    with pytest.raises(shape.ShapeError, match=r"^it\.x must be a whole number, not null$"):
        shape.mapping_of(shape.whole())({"x": None}, "it")
    shape.mapping({}, others=True)({"x": object()}, "")

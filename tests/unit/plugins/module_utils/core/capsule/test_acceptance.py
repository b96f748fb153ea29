# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import acceptance
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.acceptance import Known, Signature
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.capsule.capsules import (
    CAPSULE,
    capsule,
    sha,
)

HOST = {
    "host": "h3",
    "versions": {"libvirt": "11.3.0", "qemu": "10.0.13"},
    "emulators": [{"arch": "x86_64", "machines": ["pc-q35-7.2", "pc-q35-10.0"]}],
}


@pytest.mark.parametrize(
    ("signature", "known", "keys_given", "code"),
    [
        (Signature("none"), Known(), False, None),
        (Signature("none"), Known(6), False, None),
        (Signature("none"), Known(6, signed=True), False, "signature_missing"),
        (Signature("none"), Known(), True, "signature_missing"),
        (Signature("bad", "wrong namespace"), Known(), False, "signature_bad"),
        (Signature("bad", "wrong namespace"), Known(), True, "signature_bad"),
        (Signature("good", "alice"), Known(), False, None),
        (Signature("good", "alice"), Known(6, signed=True), True, None),
        (Signature("expired"), Known(), True, "signature_missing"),
    ],
)
def test_a_signature_is_needed_where_keys_are_named_or_were_used_before(signature, known, keys_given, code):
    found = acceptance.signature_refusal(CAPSULE, signature, known, keys_given)
    assert (found and found["code"]) == code


def test_what_is_said_of_signatures():
    assert acceptance.signature_refusal(CAPSULE, Signature("none"), Known(6, signed=True), False) == {
        "code": "signature_missing",
        "reason": "capsule 7 of db1 is not signed, and capsule 6 was signed",
        "remedy": "sign it where it is made: sign_with of the module (move_capsule_sign_with of a role) names"
        " the file of a key",
    }
    assert acceptance.signature_refusal(CAPSULE, Signature("bad", "wrong key"), Known(), False)["reason"] == (
        "the signature of capsule 7 of db1 is not right (wrong key)"
    )


@pytest.mark.parametrize("known", [Known(), Known(6, sha(6)), Known(7, sha(7)), Known(7, None)])
def test_a_newer_capsule_or_the_same_again_is_taken(known):
    assert acceptance.replay_refusal(CAPSULE, sha(7), known) is None


def test_an_older_capsule_is_refused_unless_it_is_permitted():
    known = Known(9, sha(9))
    assert acceptance.replay_refusal(CAPSULE, sha(7), known) == {
        "code": "capsule_older",
        "reason": "capsule 7 of db1 is older than 9, which this host has seen: what the guest has done since would be"
        " lost, and what was revoked since would be valid again",
        "remedy": "use capsule 9, start this one as another guest with as_new, or permit it with allow_older: true",
    }
    assert acceptance.replay_refusal(CAPSULE, sha(7), known, allow_older=True) is None


def test_another_capsule_with_the_same_number_is_never_taken():
    found = acceptance.replay_refusal(CAPSULE, sha(7), Known(7, sha(8)), allow_older=True)
    assert found["code"] == "capsule_forked"
    assert found["reason"] == (
        f"there are two different capsules with number 7 of db1: {sha(8)} is here, {sha(7)} came"
    )


@pytest.mark.parametrize(
    ("changes", "host", "reasons"),
    [
        ({}, {}, []),
        ({}, {"versions": {}, "emulators": []}, []),
        ({}, {"versions": {"libvirt": "11.2.0", "qemu": "10.0.2"}}, []),
        ({"memory": {**CAPSULE["memory"], "format": "raw"}}, {"versions": {"libvirt": "9.0.0"}}, []),
        ({}, {"versions": None, "emulators": None}, []),
        ({"arch": "aarch64"}, {}, ["db1 is an aarch64 guest, and h3 runs no such guests"]),
        ({"machine": "pc-q35-11.0"}, {}, ["h3 does not know the machine type pc-q35-11.0 of db1"]),
        (
            {},
            {"versions": {"libvirt": "9.0.0", "qemu": "7.2.22"}},
            [
                "the memory of db1 is saved in the sparse form, and libvirt 9.0.0 on h3 cannot read it",
                "the memory of db1 was saved by QEMU 10.0.13, and h3 has 7.2.22, which may not read it",
            ],
        ),
        ({"memory": None}, {"versions": {"libvirt": "9.0.0", "qemu": "7.2.22"}}, []),
    ],
)
def test_what_a_host_lacks_is_said(changes, host, reasons):
    found = acceptance.host_refusals(capsule(**changes), {**HOST, **host})
    assert [one["reason"] for one in found] == reasons
    assert all(one["remedy"] for one in found)

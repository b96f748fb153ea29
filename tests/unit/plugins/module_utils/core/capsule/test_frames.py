# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import contextlib
import json
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import frames
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.capsule.capsules import image, sha

NOT_POSSIBLE = " that cannot be read (its length or content is not possible)"
REMEDY = "run it again; if it fails again, see that both hosts have the same version of kvmops.cluster"
FRAMES = (
    frames.Hello(sha(1), image(2), 4096, ("zstd", "zlib")),
    frames.Have((image(3), image(4)), {"schema": "kvmops.receive_state/1"}, ("zlib",)),
    frames.Have((), None, ()),
    frames.Sources(True, (b"a" * 32, b"b" * 32)),
    frames.Sources(False, ()),
    frames.Changed(False, ((0, b"a" * 32), (2**32 - 1, b"b" * 32))),
    frames.Changed(True, ()),
    frames.Ready(),
    frames.Blocks(2**34, 256, 1, b"payload"),
    frames.Zero(7, 1),
    frames.Copy(7, 256, 254, 2**34),
    frames.SegmentDone(5),
    frames.Verified(5, True),
    frames.Verified(5, False),
    frames.End(b"e" * 32),
    frames.AskDigests(b"d" * 32),
    frames.SegmentDigests(True, 2**40, (b"a" * 32, b"b" * 32)),
    frames.SegmentDigests(False, 0, ()),
    frames.AskBlocks((0, 2**32 - 1)),
    frames.BlockDigests(7, 2**255 + 1, b"x" * 16),
    frames.Offer(b'{"schema":"kvmops.capsule/1"}', b"-----BEGIN SSH SIGNATURE-----"),
    frames.Offer(b"{}", b""),
    frames.Answer(False, ("definition", "tpm"), (image(2),)),
    frames.Answer(True, (), ()),
    frames.Part("nvram", bytes(100_000)),
    frames.Sealed(b"s" * 32),
    frames.Start("h1", "2026-11-24T02:00:00.120Z", 120),
    frames.Started("running", 812, 1040, "the agent answered", ("its clock was set",), None),
    frames.Started("off", None, None, "", (), refusal("machine_type", "größer", "upgrade QEMU")),
    frames.Error(refusal("disk_full", "größer als /var", "free 3 GiB")),
)
STREAM = frames.START + b"".join(frames.encoded(frame) for frame in FRAMES)


def decoded(data, size=10**9):
    decoder = frames.Decoder("h1")
    return [frame for at in range(0, len(data), size) for frame in decoder.feed(data[at : at + size])]


def refused(data):
    with pytest.raises(CapsuleError) as error:
        decoded(data)
    return error.value.refusal


def framed(number, body):
    return frames.START + struct.pack(">BI", number, len(body)) + body


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10**6])
def test_frames_come_in_pieces_of_any_size(size):
    assert decoded(STREAM, size) == list(FRAMES)


def test_every_type_of_frame_is_tried():
    assert {type(frame) for frame in FRAMES} == set(frames._TYPES)


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_that_is_cut_off_is_no_frame(frame):
    data = frames.START + frames.encoded(frame)
    for length in range(len(data)):
        decoder = frames.Decoder("h1")
        assert list(decoder.feed(data[:length])) == []
        assert decoder.inside_a_frame == (length not in (0, len(frames.START)))
        assert list(decoder.feed(data[length:])) == [frame]


@pytest.mark.parametrize(
    ("number", "most"), [(1, 4096), (5, 0), (6, 11 + 1024**2 + 16384), (7, 10), (8, 19), (9, 4), (10, 5), (11, 32)]
)
def test_a_frame_that_is_too_long_is_refused_by_its_length_alone(number, most):
    found = refused(frames.START + struct.pack(">BI", number, most + 1))
    assert found["code"] == "transfer_broken"
    assert found["reason"].endswith(f"with {most + 1} bytes, and {most} is the most")
    assert found["remedy"] == REMEDY
    assert decoded(frames.START + struct.pack(">BI", number, most)) == [frames.Ready()] * (number == 5)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (framed(0, b""), "a frame of the unknown type 0"),
        (framed(99, b""), "a frame of the unknown type 99"),
        (framed(3, b""), "a frame of Sources" + NOT_POSSIBLE),
        (framed(3, b"\1"), "a frame of Sources" + NOT_POSSIBLE),
        (
            framed(3, b"\0" + b"x" * 33),
            "a frame of Sources that cannot be read (its length or content is not possible)",
        ),
        (framed(4, b""), "a frame of Changed" + NOT_POSSIBLE),
        (framed(4, b"\2"), "a frame of Changed" + NOT_POSSIBLE),
        (
            framed(4, b"\1" + b"x" * 35),
            "a frame of Changed that cannot be read (its length or content is not possible)",
        ),
        (framed(6, bytes(10)), "a frame of Blocks" + NOT_POSSIBLE),
        (framed(6, bytes(11)), "a frame of Blocks" + NOT_POSSIBLE),
        (framed(7, bytes(10)), "a frame of Zero" + NOT_POSSIBLE),
        (framed(7, bytes(8) + b"\1\1"), "a frame of Zero" + NOT_POSSIBLE),
        (framed(8, bytes(19)), "a frame of Copy" + NOT_POSSIBLE),
        (framed(9, bytes(3)), "a frame of SegmentDone" + NOT_POSSIBLE),
        (
            framed(10, bytes(4) + b"\2"),
            "a frame of Verified that cannot be read (its length or content is not possible)",
        ),
        (framed(11, bytes(31)), "a frame of End" + NOT_POSSIBLE),
        (framed(1, b"{}"), "a frame of Hello that cannot be read (codecs is no list of at most 8 texts)"),
        (framed(1, b"[]"), "a frame of Hello that cannot be read (the document is no object)"),
        (framed(1, b"\xff"), "a frame of Hello" + NOT_POSSIBLE),
        (framed(2, b"[" * 9999), "a frame of Have" + NOT_POSSIBLE),
        (
            framed(1, json.dumps({**FRAMES[0]._asdict(), "image": "x"}).encode()),
            "a frame of Hello that cannot be read (image is 'x')",
        ),
        (
            framed(2, json.dumps({"codecs": [], "images": [], "state": 5}).encode()),
            "a frame of Have that cannot be read (state is no object)",
        ),
        (
            framed(2, json.dumps({"codecs": [], "images": ["x" * 81], "state": None}).encode()),
            "a frame of Have that cannot be read (images has a text that is too long)",
        ),
        (framed(13, bytes(31)), "a frame of AskDigests" + NOT_POSSIBLE),
        (framed(17, zlib.compress(struct.pack(">I", 9) + b"{}")), "a frame of Offer" + NOT_POSSIBLE),
        (framed(17, zlib.compress(bytes(4) + bytes(64 * 1024 + 1))), "a frame of Offer" + NOT_POSSIBLE),
        (framed(17, zlib.compress(bytes(3 * 1024**2))), "a frame of Offer" + NOT_POSSIBLE),
        (framed(18, b"{}"), "a frame of Answer that cannot be read (there is neither true nor false)"),
        (
            framed(18, json.dumps({"there": True, "parts": ["/etc/passwd"], "images": []}).encode()),
            "a frame of Answer that cannot be read (parts has one that is not known)",
        ),
        (framed(19, b""), "a frame of Part" + NOT_POSSIBLE),
        (framed(19, b"\3" + zlib.compress(b"")), "a frame of Part" + NOT_POSSIBLE),
        (framed(19, b"\0no zlib"), "a frame of Part" + NOT_POSSIBLE),
        (framed(19, b"\0" + zlib.compress(bytes(64 * 1024**2 + 1))), "a frame of Part" + NOT_POSSIBLE),
        (framed(20, bytes(31)), "a frame of Sealed" + NOT_POSSIBLE),
        (framed(21, b'{"host":"","at":"now","wait_s":1}'), "a frame of Start that cannot be read (host is '')"),
        (
            framed(21, b'{"host":"h1","at":"2026-11-24T02:00:00Z","wait_s":-1}'),
            "a frame of Start that cannot be read (wait_s is -1)",
        ),
        (
            framed(22, b'{"refusal":null,"notes":[],"useful_by":"","state":"perhaps"}'),
            "a frame of Started that cannot be read (state is 'perhaps')",
        ),
        (framed(14, bytes(8)), "a frame of SegmentDigests" + NOT_POSSIBLE),
        (framed(14, b"\2" + bytes(8)), "a frame of SegmentDigests" + NOT_POSSIBLE),
        (framed(14, bytes(10)), "a frame of SegmentDigests" + NOT_POSSIBLE),
        (framed(15, bytes(5)), "a frame of AskBlocks" + NOT_POSSIBLE),
        (framed(16, bytes(35)), "a frame of BlockDigests" + NOT_POSSIBLE),
        (framed(12, b'{"code":1}'), "a frame of Error that cannot be read (code is 1)"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value[:40],
)
def test_a_frame_that_cannot_be_is_refused(data, what):
    assert refused(data) == {"code": "transfer_broken", "reason": f"h1 sent {what}", "remedy": REMEDY}


def test_what_a_shell_prints_at_a_login_is_told_from_the_protocol():
    found = refused(b"Welcome to h1\x1b[0m!\n")
    assert found["code"] == "transfer_no_protocol"
    assert found["reason"] == "h1 sent 'Welcome to h1\\x1b[0m!\\n' instead of the protocol"
    assert found["remedy"].startswith("see that nothing is printed at a login there (files such as .bashrc)")


def test_another_version_is_told():
    assert refused(frames.MAGIC + b"\0\2") == {
        "code": "transfer_version",
        "reason": "h1 speaks version 2 of the transfer, and this host version 1",
        "remedy": "use the same version of kvmops.cluster on both hosts",
    }


def test_nothing_is_taken_after_an_error():
    decoder = frames.Decoder("h1")
    with pytest.raises(CapsuleError):
        list(decoder.feed(framed(99, b"")))
    assert list(decoder.feed(STREAM)) == []


def test_an_error_of_any_length_fits_and_is_on_one_line():
    made = frames.Error(refusal("x" * 999, "\u2028ä\n" * 9999, "\x1b[2J" * 9999))
    (found,) = decoded(frames.START + frames.encoded(made))
    assert all(text.isprintable() for text in found.refusal.values())
    assert [len(text) for text in found.refusal.values()] == [60, 2000, 1000]


def test_a_frame_that_is_too_long_is_not_made():
    with pytest.raises(ValueError, match="a frame of Blocks has at most 1064971 bytes, not 1064972"):
        frames.encoded(frames.Blocks(0, 1, 0, bytes(1024**2 + 16385)))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_hostile_bytes_lead_to_frames_or_to_an_error_about_them(data):
    body = bytearray(STREAM)
    for _time in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=6))
    with contextlib.suppress(CapsuleError):
        for frame in decoded(bytes(body), data.draw(st.integers(1, 100))):
            assert type(frame) in frames._TYPES

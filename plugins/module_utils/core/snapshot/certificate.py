# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Read from when to when a certificate is valid.

Only the few DER fields before the dates are read. QEMU decides whether it trusts a certificate.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import re
import typing as t

_PEM = re.compile(r"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----(.*?)-----END", re.DOTALL)
_SEQUENCE = 0x30
_VERSION = 0xA0
_UTC_TIME = 0x17


class Validity(t.NamedTuple):
    not_before: datetime.datetime
    not_after: datetime.datetime


def validity(pem: str) -> Validity | None:
    """The dates of the first certificate in a PEM file; None when there is none that can be read."""
    found = _PEM.search(pem)
    if found is None:
        return None
    try:
        certificate, _rest = _value(base64.b64decode(found.group(1)), _SEQUENCE)
        fields, _rest = _value(certificate, _SEQUENCE)
        if fields[0] == _VERSION:
            fields = _after(fields)
        # serial number, signature algorithm, issuer
        for _field in range(3):
            fields = _after(fields)
        dates, _rest = _value(fields, _SEQUENCE)
        return Validity(_time(dates), _time(_after(dates)))
    except (binascii.Error, ValueError, IndexError):
        return None


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag, content and what follows of the element at the start of DER data."""
    size, start = data[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(data[2:start], "big")
    if len(data) < start + size:
        raise ValueError("truncated")
    return data[0], data[start : start + size], data[start + size :]


def _value(data: bytes, tag: int) -> tuple[bytes, bytes]:
    found, content, rest = _element(data)
    if found != tag:
        raise ValueError(f"tag {found:#x} instead of {tag:#x}")
    return content, rest


def _after(data: bytes) -> bytes:
    return _element(data)[2]


def _time(data: bytes) -> datetime.datetime:
    tag, content, _rest = _element(data)
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        # Two digits of the year: 50 to 99 are of the last century (RFC 5280).
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    return datetime.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.timezone.utc)

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must travel at least, found without the collection: the 4 KiB blocks in which two images differ, compressed."""

from __future__ import annotations

import json
from typing import Any

from lab import Host

#: Reads two raw files on a host. What the new one has beyond the end of the old one differs.
COMPARE = """
import json, sys, zstandard
old, new = (open(path, "rb") for path in sys.argv[1:3])
packer = zstandard.ZstdCompressor(level=3).compressobj()
blocks = packed = 0
zero = bytes(4096)
while piece := new.read(1 << 20):
    before = old.read(1 << 20)
    if piece == before:
        continue
    for at in range(0, len(piece), 4096):
        block = piece[at:at + 4096]
        if block != (before[at:at + 4096] or zero):
            blocks += 1
            packed += len(packer.compress(block))
packed += len(packer.flush())
print(json.dumps({"blocks": blocks, "bytes": blocks * 4096, "compressed_bytes": packed}))
"""
RAW = """set -e
for side in old new; do rm -f /root/$side.raw; done
{ready}
cat > /root/compare.py
python3 /root/compare.py {old} {new}
rm -f /root/old.raw /root/new.raw
"""


def between(host: Host, old: str, new: str, kind: str = "raw") -> dict[str, Any]:
    """Return how many blocks of `new` differ from `old`, both files on a host, and their bytes, also compressed.

    Args:
        kind: raw, or qcow2: what a guest sees of it, with what is below.
    """
    ready = ""
    if kind != "raw":
        sides = (("old", old), ("new", new))
        ready = "\n".join(f"qemu-img convert -U -O raw {path} /root/{side}.raw" for side, path in sides)
        old, new = "/root/old.raw", "/root/new.raw"
    script = RAW.format(ready=ready, old=old, new=new)
    found: dict[str, Any] = json.loads(host.ssh_with(script, COMPARE, timeout=1200).stdout)
    return found

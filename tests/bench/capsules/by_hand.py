# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same by hand: what an operator does without capsules. Each returns nothing; a MoveWatch sees what it costs.

None is put at a disadvantage: disks that stand on a base find it at the far end, and what is sent is compressed.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from lab import Lab, LabError

IMAGES = "/var/lib/libvirt/images"
#: What takes longer is told as such: twice as long as the slowest of these has taken.
PATIENCE_S = 1200.0
#: Exit status of timeout(1).
TOO_LONG = 124
#: What a guest may be down for on a slow line. It was 9 s by hand.
DOWN_MS = 20000
MOVE = "virsh -q migrate --live --p2p --persistent --undefinesource"
#: Only what differs between two files of the same size is sent, in blocks of the size that guests write.
RSYNC = "rsync -a --inplace --no-whole-file -I -B 4096 -z --zc=zstd"


@dataclass(frozen=True)
class Way:
    """One guest with one disk, from a host to another one.

    Attributes:
        disk: its file.
        base: the image that it stands on, which is at both ends; None where the file stands alone.
        size_mib: what the guest sees.
    """

    lab: Lab
    guest: str
    source: str
    destination: str
    disk: str
    size_mib: int
    base: str | None = None

    def at_source(self, script: str) -> None:
        self._at(self.source, script)

    def at_destination(self, script: str) -> None:
        self._at(self.destination, script)

    def _at(self, host: str, script: str) -> None:
        """Run a script; what it starts ends with it where that takes too long."""
        words = shlex.join(["timeout", f"{PATIENCE_S:g}", "bash", "-e", "-c", script])
        done = self.lab.host(host).ssh(words, timeout=PATIENCE_S + 60)
        if done.returncode == TOO_LONG:
            raise TooLongError(f"no end after {PATIENCE_S:g} s")
        if done.returncode:
            raise LabError(f"{host}: by hand: exit status {done.returncode}: {done.stderr.strip()[-300:]}")


class TooLongError(Exception):
    """It was given up."""


def make_target(way: Way) -> None:
    """Make the file at the far end that a migration copies into."""
    backing = f"-b {way.base} -F raw " if way.base else ""
    way.at_destination(f"rm -f {way.disk}; qemu-img create -q -f qcow2 {backing}{way.disk} {way.size_mib}M")


def full_storage(way: Way) -> None:
    """`virsh migrate --copy-storage-all`: everything is sent, whatever the far end has."""
    way.at_source(f"{MOVE} --copy-storage-all {way.guest} qemu+tcp://{way.destination}/system")


def pre_copy(way: Way) -> None:
    """A live migration that copies the layer above the base, with all that libvirt has for a slow line.

    With libvirt's own limit for the down time, 0.3 s, it ends never: 100 rounds after the first did not get there.
    """
    make_target(way)
    way.at_source(
        f"(until virsh -q migrate-setmaxdowntime {way.guest} {DOWN_MS} 2>/dev/null; do sleep 1; done) &\n"
        f"{MOVE} --copy-storage-inc --copy-storage-synchronous-writes --compressed --comp-methods zstd --parallel "
        f"--parallel-connections 1 {way.guest} qemu+tcp://{way.destination}/system"
    )


def suspend_copy_resume(way: Way) -> None:
    """Save it to a file, send that file and the disk compressed, and start it from these."""
    state = f"{IMAGES}/{way.guest}.save"
    far = shlex.quote(f"root@{way.destination}:{IMAGES}/")
    way.at_source(
        f"virsh -q dumpxml --migratable {way.guest} > {state}.xml\n"
        f"virsh -q save {way.guest} {state} >/dev/null\n"
        f"zstd -q -19 -T2 --rm -f {state}\n"
        f"rsync -a -z --zc=zstd {way.disk} {state}.zst {state}.xml {far}\n"
        f"virsh -q undefine {way.guest} --managed-save >/dev/null"
    )
    way.at_destination(
        f"zstd -q -d --rm -f {state}.zst\n"
        f"virsh -q define {state}.xml\n"
        f"virsh -q restore {state} >/dev/null\n"
        f"rm -f {state}"
    )


def copy_ahead(way: Way) -> None:
    """Bring a copy to the far end for `rsync_of_images`: the guest is saved, both files are sent, and it goes on."""
    state = _state(way)
    way.at_source(f"virsh -q save {way.guest} {state} --image-format sparse >/dev/null")
    _send_images(way)
    way.at_source(f"virsh -q restore {state}")


def rsync_of_images(way: Way) -> None:
    """Save it, and send by rsync what differs from the files that are there: the way for one who has no tool for it.

    The format is the one whose pages stay where they are from one save to the next.
    """
    state = _state(way)
    way.at_source(
        f"virsh -q dumpxml --migratable {way.guest} > {state}.xml\n"
        f"virsh -q save {way.guest} {state} --image-format sparse >/dev/null"
    )
    _send_images(way)
    way.at_source(f"virsh -q undefine {way.guest} >/dev/null")
    way.at_destination(f"virsh -q define {state}.xml\nvirsh -q restore {state}")


def _state(way: Way) -> str:
    return f"{IMAGES}/{way.guest}.save"


def _send_images(way: Way) -> None:
    """Send what differs of both files, with the options of rsync that suit images best."""
    far = shlex.quote(f"root@{way.destination}:{IMAGES}/")
    way.at_source(f"touch {_state(way)}.xml\n{RSYNC} {way.disk} {_state(way)} {_state(way)}.xml {far}")

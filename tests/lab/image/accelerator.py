# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether guests can use KVM. A device node proves nothing: there is nested KVM that makes guests and then hangs them.

So a guest is booted with it once, in a base image, and has a few seconds to reach its agent.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from pathlib import Path

from lab.common.settings import Settings

from .boot_image import initrd_path, kernel_path

PATIENCE_S = 8.0
# Mounts are made in a namespace of their own, so that nothing of the trial can be left behind.
TRIAL = (
    'mount --bind /dev "$1/dev" && mount --bind "$2" "$1/mnt" && exec chroot "$1" qemu-system-x86_64 '
    "-accel kvm -machine pc-q35-7.2 -cpu host -m 128 -nodefaults -display none -serial stdio -no-reboot "
    "-kernel /mnt/vmlinuz -initrd /mnt/initrd.gz -append 'console=ttyS0 panic=-1 lab.touched_mib=1'"
)


def kvm_works(settings: Settings, image: Path) -> bool:
    """Return whether KVM boots a guest on this machine; tried once a kernel, then remembered."""
    if not Path("/dev/kvm").exists():
        return False
    known = settings.cache / "kvm.json"
    here = f"{os.uname().release} {os.uname().version}"
    if known.exists():
        told = json.loads(known.read_text(encoding="utf-8"))
        if told.get("kernel") == here:
            return bool(told["works"])
    works = _boots(settings, image)
    known.write_text(json.dumps({"kernel": here, "works": works}), encoding="utf-8")
    return works


def _boots(settings: Settings, image: Path) -> bool:
    assert kernel_path(settings).parent == initrd_path(settings).parent
    trial = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", TRIAL, "sh", str(image), str(settings.guest_boot)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    alarm = threading.Timer(PATIENCE_S, _kill, [trial])
    alarm.start()
    # Leaving it closes its output and waits for it.
    with trial:
        try:
            assert trial.stdout is not None
            return any("agent: t=" in line for line in trial.stdout)
        finally:
            alarm.cancel()
            _kill(trial)


def _kill(trial: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(trial.pid, signal.SIGKILL)

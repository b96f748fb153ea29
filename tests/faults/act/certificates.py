# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of a host that nobody should accept."""

from __future__ import annotations

from .scene import Scene


def expired(scene: Scene) -> None:
    """One that ended long ago."""
    _replace(scene, None)


def of_another_name(scene: Scene) -> None:
    """One of a host that is none of these."""
    _replace(scene, "elsewhere")


def _replace(scene: Scene, name: str | None) -> None:
    """Replace those of all hosts that guests may go to, as before the run nobody knows which it will be."""
    for host in scene.lab.hosts:
        if host != scene.source:
            scene.lab.fault.bad_certificate(host, name)
            scene.mend.append(lambda host=host: scene.lab.fault.good_certificate(host))  # type: ignore[misc]

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what a send to a host would put on the link. Nothing is sent for that.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import receive_state
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import bytes_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.delta import Delta
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.delta_bytes import bytes_table
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.reservation import (
    MARGIN_BYTES,
    no_space,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.send_session import Outgoing


class Forecast(t.NamedTuple):
    """What a send would do.

    Attributes:
        images: for each image that is missing C(what), C(image), C(resumed_bytes) and the keys of its table of bytes.
        refusal: why the far end has no room for it, or None.
    """

    images: list[dict[str, t.Any]]
    refusal: Refusal | None


def forecast(far_end: str, capsule_dir: str, capsule: Outgoing, wanted: t.Mapping[str, t.Any]) -> Forecast:
    """What a send would put on the link.

    Args:
        far_end: name of the host.
        capsule_dir: of its store.
        capsule: what would be sent.
        wanted: what it has said it lacks (L(permit.looked)).
    """
    images, needed = [], 0
    for one in wanted["wanted"]:
        image = capsule.images[one["image"]]
        state = receive_state.from_document(one["state"], one["image"]) if one["state"] else None
        sources = list(capsule.known(one["candidates"]))
        names = {source.manifest.name for source in sources}
        if state is not None and state.ground is not None and state.ground not in names:
            state = None
        delta = Delta(image.manifest, sources, (state.ground,) if state else None)
        verified = state.verified & set(delta.changed) if state else set()
        needed += sum(bytes_of(delta.image.size_bytes, number) for number in set(delta.changed) - verified)
        resumed = sum(bytes_of(delta.image.size_bytes, number) for number in verified)
        base = capsule.base_of(one["image"])
        table = bytes_table(delta, base=base, skip=verified)
        images.append({"what": image.what, "image": one["image"], "resumed_bytes": resumed, **table})
    lacks = needed + MARGIN_BYTES - int(wanted["free_bytes"])
    refused = None
    if images and lacks > 0:
        refused = no_space(
            far_end, capsule_dir, "what is missing", needed + MARGIN_BYTES, int(wanted["free_bytes"])
        ).refusal
    return Forecast(images, refused)


def totals(images: t.Sequence[t.Mapping[str, t.Any]]) -> dict[str, t.Any]:
    """The tables of all images as one: C(sent), before compression, and C(avoided_by)."""
    avoided: dict[str, int] = dict.fromkeys(("base", "zero", "balloon", "previous", "hash"), 0)
    for image in images:
        for key, count in image["avoided_by"].items():
            avoided[key] += count
    return {
        "sent": sum(image["send_bytes"] for image in images),
        "avoided_by": avoided,
        "full_because": [f"{image['what']}: {image['full_because']}" for image in images if image["full_because"]],
    }

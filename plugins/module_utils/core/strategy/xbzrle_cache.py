# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The size of xbzrle's cache."""

from __future__ import annotations

import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.working_set import curve_of

#: xbzrle's cache is a hash by address with one page in each place, so it must be larger than the hot set.
CACHE_FACTOR = 2.0
LEAST_CACHE_BYTES = 64 * MIB
#: It must leave memory for the other guests of the host.
CACHE_SHARE_OF_FREE = 0.25


def cache_bytes(
    working_set: t.Mapping[str, t.Any], link: Link, free_bytes: int | None, limit_bytes: int | None = None
) -> int:
    """The size of xbzrle's cache: a power of two (QEMU takes nothing else) that holds what the first pass dirties, as
    far as the host and the guest's own limit can spare it.

    Args:
        free_bytes: memory that is free on the source, or None when it does not say.
        limit_bytes: what the guest's memory limit leaves for it, or None where there is no limit.
    """
    first_s = working_set["touched_bytes"] / link.bandwidth_bytes_per_s
    wanted = max(LEAST_CACHE_BYTES, CACHE_FACTOR * curve_of(working_set).value(first_s))
    size = 1 << math.ceil(math.log2(wanted))
    spare = math.inf if free_bytes is None else CACHE_SHARE_OF_FREE * free_bytes
    if limit_bytes is not None:
        spare = min(spare, limit_bytes)
    while size > LEAST_CACHE_BYTES and size > spare:
        size //= 2
    return size

# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Whether xbzrle helps, seen as soon as it could: its first pass fills nothing and its second round fills the cache, so
from the third on a page that still goes whole was changed all over, or was not in the cache any more."""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import Sample

#: From this round on the cache holds what it can.
FIRST_ROUND = 3
#: It is judged by so many pages, and does not help where this share of them went whole.
PAGES = 1000
WHOLE_SHARE = 0.8


class XbzrleCheck:
    """Fed with every sample of a migration with xbzrle, in order."""

    def __init__(self) -> None:
        self._base: Sample | None = None

    def are_most(self, sample: Sample) -> bool:
        """One more sample; true once it is plain that most pages go whole."""
        if sample.iteration < FIRST_ROUND:
            return False
        self._base = self._base or sample
        whole = sample.whole_pages - self._base.whole_pages
        pages = whole + sample.delta_pages - self._base.delta_pages
        return pages >= PAGES and whole >= WHOLE_SHARE * pages

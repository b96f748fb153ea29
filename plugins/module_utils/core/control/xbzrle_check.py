# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Whether xbzrle helps, seen as soon as it can be: the first pass fills nothing and the second round fills the cache.

From the third round on, a page that still goes whole was changed all over, or was not in the cache any more.
"""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.end_now import end_now
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.job_state import JobState
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reaction import Reaction
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reforecast import Reforecast
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.rounds import Sync
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import Sample

#: From this round on the cache holds what it can.
FIRST_ROUND = 3
#: It is judged by so many pages, and does not help where this share of them went whole.
PAGES = 1000
WHOLE_SHARE = 0.8


class XbzrleCheck:
    """Checks one migration with xbzrle.

    Args:
        job: the state of the job.
        reforecast: the forecast, made anew in flight, or None.
    """

    def __init__(self, job: JobState, reforecast: Reforecast | None) -> None:
        self._job = job
        self._reforecast = reforecast
        self._base: Sample | None = None
        self._last_sync: Sync | None = None

    def is_useless(self, sample: Sample) -> bool:
        """One more sample; true once it is plain that most pages go whole."""
        self._last_sync = self._job.sync or self._last_sync
        if sample.iteration < FIRST_ROUND:
            return False
        self._base = self._base or sample
        whole = sample.whole_pages - self._base.whole_pages
        pages = whole + sample.delta_pages - self._base.delta_pages
        return pages >= PAGES and whole >= WHOLE_SHARE * pages

    def end(self, sample: Sample) -> Reaction | None:
        """What ends the migration, where whole pages would not."""
        if self._job.fits(sample.remaining_bytes) or self._converges():
            return None
        why = "xbzrle must send whole pages: most of each page changes, or its cache is too small"
        return end_now(self._job, why, sample.remaining_bytes)

    def _converges(self) -> bool:
        if self._reforecast is None or self._last_sync is None or self._last_sync.bytes_per_s <= 0:
            return False
        return self._reforecast.at_sync(self._last_sync, self._job.limit_ms).verdict == "converges"

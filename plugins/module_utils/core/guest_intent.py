# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What holds for one guest: what the operator permits and accepts, and what the guest's own metadata makes of it."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, Intent, metadata_of


def guest_intent(domain: Domain, of_run: t.Mapping[str, t.Any]) -> Intent | None:
    """The whole intent of a guest; None if its metadata has an error, which is reported elsewhere.

    Args:
        domain: in a snapshot.
        of_run: as the operator stated it.
    """
    try:
        return t.cast(Intent, intents.merge(of_run, metadata_of(domain).get("intent")))
    except intents.IntentError:
        return None

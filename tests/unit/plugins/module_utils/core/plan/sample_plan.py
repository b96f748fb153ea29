# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster of three hosts and the plan that drains the first, for the tests of the plan document."""

from __future__ import annotations

from ansible_collections.kvmops.cluster.tests.unit.builders import cluster, domain, plan_document, snapshot

PINNED = {"code": "hostdev", "reason": "a GPU is passed through", "remedy": "detach it"}


def hosts():
    return cluster(
        snapshot("h1", domain("web1"), domain("web2"), domain("gpu1", blockers=[PINNED]), domain("o", state="shutoff")),
        snapshot("h2", domain("native")),
        snapshot("h3"),
    )


def made(seen=None):
    return plan_document(seen or hosts())

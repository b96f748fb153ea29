# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a template gets: plain data out of what hosts registered, and errors that name the filter."""

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kvmops.cluster.plugins.filter.upgrade_consent import FilterModule as Consent
from ansible_collections.kvmops.cluster.plugins.filter.upgrade_standing import FilterModule as UpgradeStatus
from ansible_collections.kvmops.cluster.plugins.filter.upgrade_troubles import FilterModule as Troubles
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.upgrade_record import NONE
from ansible_collections.kvmops.cluster.tests.unit.builders import cluster, domain, path, snapshot, uuid_of


def applied(module, name, *arguments, **options):
    result = module().filters()[name](*arguments, **options)
    json.dumps(result)
    return result


def test_upgrade_standing():
    records = {"h1": {**NONE, "run": "r1", "phase": "begun", "at": "2026-11-24T02:00:00Z"}, "h2": NONE}
    found = applied(UpgradeStatus, "upgrade_standing", ["h1", "h2"], records, cluster(snapshot("h1")), "new")
    assert (found["run"], found["resumed"], found["begun"], found["left"]) == ("r1", True, ["h1"], ["h1", "h2"])
    assert found["lines"][-1] == "  to do: h2 (QEMU unknown)"


def test_upgrade_consent():
    stay = {"guest": {"name": "gpu1", "uuid": uuid_of("gpu1")}, "host": "h1", "refusals": []}
    seen = cluster(snapshot("h1", domain("gpu1")))
    permitted = applied(Consent, "upgrade_consent", [stay], seen, {"allow_shutdown": "yes"})
    assert permitted == {"stop": [stay["guest"]], "blocked": []}
    assert applied(Consent, "upgrade_consent", [stay], seen)["blocked"][0]["refusals"][0]["code"] == "no_consent"
    with pytest.raises(AnsibleFilterError, match=r"upgrade_consent: .*unknown intent"):
        applied(Consent, "upgrade_consent", [stay], seen, {"allow_shutdwn": True})


def test_upgrade_troubles():
    seen = cluster(snapshot("h1"), snapshot("h2"))
    ways = [path("h1", "h2"), path("h2", "h1")]
    options = {"said": {}, "snapshots": seen, "paths": ways}
    assert applied(Troubles, "upgrade_troubles", ["h1"], well=["h1"], **options) == {}
    assert applied(Troubles, "upgrade_troubles", ["h1"], well=[], **options) == {"h1": ["it does not answer any more"]}
    options["paths"] = [path("h1", "h2", ok=False, checks=[]), path("h2", "h1")]
    assert applied(Troubles, "upgrade_troubles", ["h1"], well=["h1"], **options, before=[("h1", "h2")]) == {}

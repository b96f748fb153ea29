# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.qemu_instance import (
    MigrationLimits,
    is_same_instance,
    limits_before,
    qemu_instance_of,
)


class Domain:
    def __init__(self, downtime_ms=300, speed_mib_s=1000):
        self.downtime_ms, self.speed_mib_s, self.sets = downtime_ms, speed_mib_s, []

    def ID(self):  # noqa: N802
        return 3

    def migrateGetMaxDowntime(self, flags):  # noqa: N802
        return self.downtime_ms

    def migrateSetMaxDowntime(self, limit, flags):  # noqa: N802
        self.sets.append(("downtime", limit))

    def migrateGetMaxSpeed(self, flags):  # noqa: N802
        return self.speed_mib_s

    def migrateSetMaxSpeed(self, speed, flags):  # noqa: N802
        self.sets.append(("speed", speed))


@pytest.mark.parametrize(
    ("record", "about"),
    [
        ({"boot_id": "b", "domain_id": 3}, True),
        ({"boot_id": "b", "domain_id": 4}, False),
        ({"boot_id": "c", "domain_id": 3}, False),
        ({"boot_id": "b"}, False),
        ({}, False),
    ],
)
def test_a_record_is_about_one_qemu(record, about):
    assert is_same_instance(record, Domain(), "b") is about


def test_without_a_name_for_the_boot_no_record_is_about_it():
    assert not is_same_instance({"boot_id": None, "domain_id": 3}, Domain(), None)


def test_what_is_put_on_record_is_found_again():
    record = qemu_instance_of(Domain(60, 5), "b").data()
    assert record == {"boot_id": "b", "domain_id": 3, "downtime_before_ms": 60, "speed_before_mib_s": 5}
    assert is_same_instance(record, Domain(), "b")
    assert limits_before(record) == MigrationLimits(60, 5)


@pytest.mark.parametrize("record", [{}, {"downtime_before_ms": "60", "speed_before_mib_s": None}])
def test_a_record_that_tells_no_limits_gives_none_back(record):
    domain = Domain()
    assert not limits_before(record).restore(domain)
    assert domain.sets == []


@pytest.mark.parametrize(
    ("limits", "sets"),
    [
        (MigrationLimits(300, 1000), []),
        (MigrationLimits(60, 1000), [("downtime", 60)]),
        (MigrationLimits(None, 5), [("speed", 5)]),
        (MigrationLimits(60, 5), [("downtime", 60), ("speed", 5)]),
    ],
)
def test_only_a_limit_that_is_another_now_is_set(limits, sets):
    domain = Domain()
    assert limits.restore(domain) is bool(sets)
    assert domain.sets == sets

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reaction import Reaction
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import Sample
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.appraisal import Knowledge
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import Decision
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.working_set import curve_of
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.ending import MigrationEnding
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.fallback import MAX_FALLBACKS, FallbackHistory
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt
from ansible_collections.kvmops.cluster.tests.unit.working_sets import MIB, fitted, measured

UNSUPPORTED = libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED
B = 23_900_000
pytestmark = pytest.mark.usefixtures("cluster")


def decision(method="pre-copy", *flags, **parameters):
    return Decision(method, "because", ("LIVE", *flags), parameters, 30, 500, "POSTCOPY" in flags, False, None, method)


def abort_reaction(code, left=64 * MIB):
    """The control gave it up after four rounds that left so much each."""
    ending = MigrationEnding(
        error="canceled by client", error_code=78, abort_reaction=Reaction("abort", f"because of {code}", code=code)
    )
    for number in range(1, 5):
        ending.observation.add(Sample(2.0 * number, number, left, 2 * number * B, B))
    return ending


def refused(text="it is not supported", code=UNSUPPORTED, **more):
    return MigrationEnding(error=text, error_code=code, **more)


@pytest.mark.parametrize(
    ("code", "again", "methods"),
    [
        ("does_not_converge", True, ["pre-copy"]),
        # The link was another one than was assumed: the same way may be the best one still.
        ("wrong_method", True, []),
        ("deadline", False, ["pre-copy"]),
        ("interrupted", False, ["pre-copy"]),
        ("link_is_down", False, ["pre-copy"]),
    ],
)
def test_why_it_was_given_up_says_whether_another_way_may_do(code, again, methods):
    tried = FallbackHistory()
    assert tried.add(decision(), abort_reaction(code)) == again
    assert (tried.methods, tried.reason) == (methods, f"because of {code}")
    assert tried.forecast_was_wrong == (code == "wrong_method")
    assert tried.is_new(decision()) == (code == "wrong_method")
    assert tried.is_new(decision("xbzrle", "COMPRESSED"))


CLOSED = "End of file while reading data: : Input/output error"


@pytest.mark.parametrize("text", [CLOSED, "internal error: QEMU unexpectedly closed the monitor (vm='web1')"])
def test_a_destination_that_ends_before_anything_was_sent_is_tried_without_postcopy(text):
    tried = FallbackHistory()
    assert tried.add(decision("pre-copy", "POSTCOPY"), refused(text, 38))
    assert tried.methods == ["post-copy"]
    assert tried.reason == f"nothing was sent, and the destination may not offer post-copy: {text}"
    assert not tried.is_new(decision("pre-copy", "POSTCOPY"))
    assert tried.is_new(decision("pre-copy"))


@pytest.mark.parametrize(
    ("made", "ending"),
    [
        # Post-copy was not enabled, so it is not the reason.
        (decision("pre-copy"), refused(CLOSED, 38)),
        # The link broke on the way.
        (decision("pre-copy", "POSTCOPY"), refused(CLOSED, 38, memory_bytes=MIB)),
        (decision("pre-copy", "POSTCOPY"), refused(CLOSED, 38, disk_bytes=MIB)),
        (decision("pre-copy", "POSTCOPY"), refused(CLOSED, 38, maybe_postcopy=True)),
        (decision("pre-copy", "POSTCOPY"), refused("Requested operation is not valid", 55)),
    ],
)
def test_another_end_is_not_taken_for_a_refusal_of_postcopy(made, ending):
    tried = FallbackHistory()
    assert not tried.add(made, ending)
    assert tried.methods == []


@pytest.mark.parametrize(
    ("made", "ending", "methods"),
    [
        (decision("xbzrle", "COMPRESSED"), refused(), ["xbzrle"]),
        (decision("throttle", "AUTO_CONVERGE"), refused(code=libvirt.VIR_ERR_OPERATION_UNSUPPORTED), ["throttle"]),
        (decision("parallel-zstd", "PARALLEL"), refused(code=libvirt.VIR_ERR_CONFIG_UNSUPPORTED), ["parallel-zstd"]),
        (decision("post-copy", "POSTCOPY"), refused(), ["post-copy"]),
        (decision("pre-copy", "POSTCOPY"), refused(), ["post-copy"]),
        (decision("raise-downtime", "POSTCOPY"), refused(), ["post-copy"]),
        (decision("xbzrle", "COMPRESSED", "POSTCOPY"), refused(), ["xbzrle", "post-copy"]),
        (decision("xbzrle", "COMPRESSED", "POSTCOPY"), refused("post-copy is not supported"), ["post-copy"]),
        (
            decision("xbzrle", "COMPRESSED", "POSTCOPY"),
            refused("unable to execute QEMU command 'migrate-set-capabilities': Postcopy is not supported", 1),
            ["post-copy"],
        ),
        (
            decision("xbzrle", "COMPRESSED"),
            refused("command 'migrate-set-parameters': Invalid parameter", 1),
            ["xbzrle"],
        ),
        # Nothing was asked for that could be left out.
        (decision(), refused(), []),
        (decision("suspend"), refused(), []),
        # This is another trouble.
        (decision("xbzrle", "COMPRESSED"), refused("Unable to write to socket", 38), []),
        (decision("xbzrle", "COMPRESSED"), refused(memory_bytes=5 * MIB), []),
        (decision("post-copy", "POSTCOPY"), refused(maybe_postcopy=True), []),
    ],
)
def test_what_was_not_offered_is_left_out_the_next_time(made, ending, methods):
    tried = FallbackHistory()
    assert tried.add(made, ending) == bool(methods)
    assert tried.methods == methods
    if methods:
        assert tried.reason == f"one of the hosts does not offer that: {ending.error}"


def test_there_is_an_end_to_it():
    tried = FallbackHistory()
    names = ["parallel-zstd", "xbzrle", "throttle"]
    assert [tried.add(decision(name, name.upper()), refused()) for name in names] == [True] * MAX_FALLBACKS + [False]
    assert not any(tried.is_new(decision(name, name.upper())) for name in names)


CALM = measured(fitted(16, 8))


def test_what_the_link_gave_and_the_guest_did_is_known_the_next_time():
    tried = FallbackHistory()
    known = Knowledge(CALM, stated_bytes_per_s=1e9)
    assert tried.applied_to(known) is known
    tried.add(decision(), abort_reaction("does_not_converge"))
    added = tried.applied_to(known)
    assert added.stated_bytes_per_s == pytest.approx(B)
    assert curve_of(added.working_set).value(64 * MIB / B) == pytest.approx(64 * MIB, rel=0.01)
    assert tried.applied_to(Knowledge()) == Knowledge(stated_bytes_per_s=pytest.approx(B))


@pytest.mark.parametrize(
    ("made", "ending"),
    [
        # What xbzrle left says nothing of pages, and a move that was stopped for another reason had no fixed point.
        (decision("xbzrle", "COMPRESSED"), abort_reaction("does_not_converge")),
        (decision(), abort_reaction("wrong_method")),
    ],
)
def test_a_guest_is_called_hotter_only_for_pages_that_were_left(made, ending):
    tried = FallbackHistory()
    tried.add(made, ending)
    assert tried.applied_to(Knowledge(CALM)).working_set is CALM


def test_a_cap_is_not_taken_for_the_link():
    tried = FallbackHistory()
    tried.add(decision(bandwidth=20), abort_reaction("does_not_converge"))
    assert tried.applied_to(Knowledge(CALM, stated_bytes_per_s=1e9)) == Knowledge(CALM, stated_bytes_per_s=1e9)


def test_a_try_that_was_too_short_leaves_the_rate_of_the_one_before():
    tried = FallbackHistory()
    tried.add(decision(), abort_reaction("does_not_converge"))
    tried.add(decision("xbzrle", "COMPRESSED"), refused())
    assert tried.bytes_per_s == pytest.approx(B)
    assert tried.methods == ["pre-copy", "xbzrle"]

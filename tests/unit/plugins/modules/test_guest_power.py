# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.host_state import power
from ansible_collections.kvmops.cluster.plugins.modules import guest_power
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt

OFF = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN)


@pytest.fixture
def ask(run_module, cluster, monkeypatch):
    """Call it with a state and guests; the host is h1."""
    monkeypatch.setattr(power, "POLL_S", 0.01)
    cluster.add_host("h1")

    def run(state, *guests, **arguments):
        uuids = [guest if isinstance(guest, str) else guest.uuid for guest in guests]
        return run_module(guest_power, state=state, name="h1", guests=uuids, **arguments)

    run.host, run.cluster = cluster.hosts["h1"], cluster
    return run


def test_a_guest_is_shut_down_and_started_again(ask):
    guest = ask.host.add_guest("gpu1")
    asked = ask("shut_down", guest)
    assert (asked["changed"], asked["guests"], asked["shutting_down"]) == (True, ["gpu1"], [])
    assert not guest.active
    assert not ask("shut_down", guest)["changed"]
    assert ask("running", guest)["guests"] == ["gpu1"]
    assert guest.active
    assert not ask("running", guest)["changed"]


def test_one_that_does_not_heed_the_button_runs_on(ask):
    deaf, heeding = ask.host.add_guest("deaf", heeds=False), ask.host.add_guest("heeding")
    result = ask("shut_down", deaf, heeding, timeout_s=0.05)
    assert result["refusal"]["code"] == "still_running"
    assert result["msg"].startswith("deaf did not shut down within 0.05 s: ")
    assert result["msg"].endswith("nothing was ended by force")
    assert (deaf.active, heeding.active) == (True, False)
    assert sorted(result["guests"]) == ["deaf", "heeding"]
    assert result["shutting_down"] == [{"name": "deaf", "uuid": deaf.uuid}]
    assert "virDomainDestroy" not in {call for _host, call in ask.cluster.writes}


@pytest.mark.parametrize(
    "state",
    [
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY),
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY_FAILED),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED),
    ],
)
def test_one_whose_memory_is_split_between_two_hosts_is_not_asked(ask, state):
    half = ask.host.add_guest("half", state=state)
    result = ask("shut_down", half)
    assert result["refusal"]["code"] == "postcopy"
    assert result["msg"].startswith("half must not be shut down in the middle of a post-copy")
    assert result["msg"].endswith("if it broke off: ansible-playbook kvmops.cluster.recover")
    assert half.active
    assert ask.cluster.writes == []


def test_one_that_would_be_gone_is_not_asked(ask):
    lasting, passing = ask.host.add_guest("lasting"), ask.host.add_guest("passing", persistent=False)
    result = ask("shut_down", lasting, passing)
    assert result["msg"].startswith("passing would be gone once shut down: h1 has no definition of it")
    assert (lasting.active, passing.active) == (True, True)
    assert (result["guests"], result["shutting_down"]) == ([], [])


@pytest.fixture
def answer(monkeypatch):
    """Have libvirt answer one call about one guest in another way: with an error, after something has happened."""

    def arrange(call, name, error, happens=lambda: None):
        real = getattr(libvirt.Domain, call)

        def answered(domain, *arguments):
            if domain.name() != name:
                return real(domain, *arguments)
            happens()
            raise error

        monkeypatch.setattr(libvirt.Domain, call, answered)

    return arrange


def test_one_that_goes_off_while_it_is_asked_is_off(ask, answer):
    early, late = ask.host.add_guest("early"), ask.host.add_guest("late")
    answer("shutdownFlags", "early", libvirt.invalid("domain is not running"), lambda: setattr(early, "state", OFF))
    result = ask("shut_down", early, late)
    assert (result["guests"], result["shutting_down"]) == (["late"], [])
    assert "refusal" not in result
    assert not late.active


def test_one_that_cannot_be_asked_does_not_keep_the_others_from_it(ask, answer):
    stuck, sound = ask.host.add_guest("stuck"), ask.host.add_guest("sound")
    answer("shutdownFlags", "stuck", libvirt.libvirtError("Timed out: cannot acquire state change lock"))
    result = ask("shut_down", stuck, sound)
    assert result["refusal"]["code"] == "not_asked"
    assert result["msg"].startswith("h1 could not ask stuck (Timed out: cannot acquire state change lock) to shut down")
    # It may have been asked all the same.
    assert (result["guests"], result["shutting_down"]) == (["sound"], [{"name": "stuck", "uuid": stuck.uuid}])
    assert (stuck.active, sound.active) == (True, False)


def test_who_was_asked_is_told_when_the_daemon_goes_away_meanwhile(ask):
    guest = ask.host.add_guest("gpu1", heeds=False)
    real = libvirt.Domain.shutdownFlags

    def asked(domain, *arguments):
        real(domain, *arguments)
        ask.host.stop_daemon()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(libvirt.Domain, "shutdownFlags", asked)
        result = ask("shut_down", guest)
    assert result["failed"]
    assert (result["guests"], result["shutting_down"]) == (["gpu1"], [{"name": "gpu1", "uuid": guest.uuid}])


def test_one_that_does_not_start_does_not_keep_the_others_down(ask):
    broken, sound = ask.host.add_guest("broken", state=OFF), ask.host.add_guest("sound", state=OFF)
    broken.start_error = libvirt.libvirtError("internal error: no such disk")
    result = ask("running", broken, sound)
    assert result["msg"].startswith("h1 could not start broken (internal error: no such disk)")
    assert result["guests"] == ["sound"]
    assert sound.active


def test_a_guest_that_the_host_does_not_know(ask):
    result = ask("running", "0d4c1a52-3c43-4a53-9d5e-0b6f6d9d8c11")
    assert result["refusal"]["code"] == "no_guest"


def test_one_that_the_host_does_not_know_does_not_keep_the_others_down(ask):
    broken, sound = ask.host.add_guest("broken", state=OFF), ask.host.add_guest("sound", state=OFF)
    broken.start_error = libvirt.libvirtError("internal error: no such disk")
    result = ask("running", "0d4c1a52-3c43-4a53-9d5e-0b6f6d9d8c11", broken, sound)
    assert (result["guests"], sound.active) == (["sound"], True)
    assert result["refusal"]["code"] == "not_started"
    assert "broken (internal error: no such disk)" in result["msg"]
    assert "h1 has no guest with the UUID 0d4c1a52-3c43-4a53-9d5e-0b6f6d9d8c11" in result["msg"]


def test_nobody_is_asked_when_one_of_them_is_not_known(ask):
    guest = ask.host.add_guest("gpu1")
    result = ask("shut_down", guest, "0d4c1a52-3c43-4a53-9d5e-0b6f6d9d8c11")
    assert (result["refusal"]["code"], result["guests"], result["shutting_down"]) == ("no_guest", [], [])
    assert guest.active


def test_check_mode_opens_no_connection_that_could_write(ask):
    running, off = ask.host.add_guest("running"), ask.host.add_guest("off", state=OFF)
    assert ask("shut_down", running, off, check=True)["guests"] == ["running"]
    assert ask("running", running, off, check=True)["guests"] == ["off"]
    assert set(ask.cluster.opened) == {("qemu:///system", True)}
    assert ask.cluster.writes == []

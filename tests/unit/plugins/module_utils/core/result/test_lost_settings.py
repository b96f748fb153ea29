# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.lost_settings import lost_settings

MAC = "52:54:00:00:00:01"
GUEST = f"""<domain><name>{{name}}</name>
  <memory unit='KiB'>2097152</memory><currentMemory unit='KiB'>1048576</currentMemory><vcpu current='2'>4</vcpu>
  <cputune><shares>2048</shares><quota>-1</quota><vcpupin vcpu='0' cpuset='1'/></cputune>
  <memtune><hard_limit unit='KiB'>4194304</hard_limit></memtune><blkiotune><weight>500</weight></blkiotune>
  <devices>
    <disk type='file'><target dev='vda'/><iotune><total_bytes_sec>104857600</total_bytes_sec>
      <read_iops_sec>500</read_iops_sec></iotune></disk>
    <interface type='bridge'><mac address='{MAC}'/><bandwidth><inbound average='1000' peak='2000'/></bandwidth>
      <link state='down'/></interface>
  </devices></domain>"""


def described(*changes, name="web1"):
    text = GUEST.format(name=name)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return ET.fromstring(text)


def lost(*changes, name="web1"):
    return lost_settings(described(name=name), described(*changes, name=name), "h1", "h2")


def test_a_guest_that_has_all_it_had_lacks_nothing():
    assert lost() == []


def test_what_it_has_more_is_not_lost():
    more = ("</iotune>", "<write_iops_sec>9</write_iops_sec></iotune>")
    assert lost(more) == []


def test_pins_name_cpus_of_a_host_and_are_not_compared():
    assert lost(("<vcpupin vcpu='0' cpuset='1'/>", "")) == []


@pytest.mark.parametrize(
    ("change", "what", "command"),
    [
        (("<shares>2048</shares>", ""), "cpu_shares 2048", "schedinfo web1 --set cpu_shares=2048 --live"),
        (("<quota>-1</quota>", "<quota>50000</quota>"), "vcpu_quota -1", "schedinfo web1 --set vcpu_quota=-1 --live"),
        (
            ("<hard_limit unit='KiB'>4194304</hard_limit>", ""),
            "hard_limit 4194304 KiB",
            "memtune web1 --hard-limit 4194304 --live",
        ),
        (("<weight>500</weight>", "<weight>100</weight>"), "I/O weight 500", "blkiotune web1 --weight 500 --live"),
        (
            ("<total_bytes_sec>104857600</total_bytes_sec>", ""),
            "limits of disk vda (total_bytes_sec 104857600)",
            "blkdeviotune web1 vda --total-bytes-sec 104857600 --live",
        ),
        (
            ("<inbound average='1000' peak='2000'/>", ""),
            f"an inbound limit of interface {MAC}",
            f"domiftune web1 {MAC} --inbound 1000,2000 --live",
        ),
        (
            ("<link state='down'/>", "<link state='up'/>"),
            f"the link of interface {MAC} down",
            f"domif-setlink web1 {MAC} down",
        ),
        (
            ("<currentMemory unit='KiB'>1048576", "<currentMemory unit='KiB'>2097152"),
            "1 GiB of memory by its balloon",
            "setmem web1 1048576 --live",
        ),
        (("current='2'", ""), "2 CPUs in use", "setvcpus web1 2 --live"),
    ],
)
def test_what_is_lost_is_told_with_the_command_that_sets_it(change, what, command):
    assert lost(change) == [
        {
            "code": "setting_not_carried",
            "reason": f"it had {what} on h1, and has not on h2",
            "remedy": f"virsh {command} on h2",
        }
    ]


def test_a_balloon_that_moves_while_the_guest_does_is_no_loss():
    assert lost(("<currentMemory unit='KiB'>1048576", "<currentMemory unit='KiB'>1040000")) == []


def test_a_disk_that_is_gone_is_not_ours_to_tell():
    assert lost(("<target dev='vda'/>", "<target dev='vdb'/>")) == []


def test_an_awkward_name_is_quoted():
    (one,) = lost(("<shares>2048</shares>", ""), name="two words")
    assert one["remedy"] == "virsh schedinfo 'two words' --set cpu_shares=2048 --live on h2"


@pytest.mark.parametrize("text", ["", "many", "1e99", "$(reboot)"])
def test_nonsense_in_a_description_is_passed_over(text):
    before = described(("2048", text), ("104857600", text), ("1048576", text))
    assert lost_settings(before, described(), "h1", "h2") == []

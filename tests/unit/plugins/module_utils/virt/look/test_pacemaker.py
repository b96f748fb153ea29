# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import pacemaker

PRIMITIVE = (
    '<primitive type="VirtualDomain"><instance_attributes><nvpair name="config" value="{}"/></instance_attributes>'
    "</primitive>"
)


def test_guests_are_told_by_the_name_in_their_definition(tmp_path):
    cib = tmp_path / pacemaker.CIB
    cib.parent.mkdir(parents=True)
    cib.write_text(
        "<cib>" + "".join(PRIMITIVE.format(path) for path in ("/s/a.xml", "/s/b.xml", "/s/gone.xml")) + "</cib>"
    )
    (tmp_path / "s").mkdir()
    (tmp_path / "s/a.xml").write_text("<domain><name>db 1</name></domain>")
    (tmp_path / "s/b.xml").write_text("no xml")
    assert pacemaker.guests(tmp_path) == {"db 1", "b", "gone"}


def test_a_host_without_pacemaker(tmp_path):
    assert pacemaker.guests(tmp_path) == set()

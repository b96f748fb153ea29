# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.certificate import Validity
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import certificates

NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)


@pytest.fixture
def pki(tmp_path, monkeypatch):
    folder = tmp_path / "etc/pki/qemu"
    folder.mkdir(parents=True)
    for name in (*certificates.CERTIFICATES, *certificates.KEYS):
        (folder / name).write_text(name)
        (folder / name).chmod(0o600)
    dates = {}
    valid = Validity(NOW - datetime.timedelta(1), NOW + datetime.timedelta(1))

    def validity(text):
        return dates.get(text, valid)

    monkeypatch.setattr(certificates, "validity", validity)
    return folder, dates


def test_certificates_in_order(pki, tmp_path):
    assert certificates.verdict({}, "root", NOW, tmp_path) == {"usable": True, "reason": None, "remedy": None}


def test_a_missing_file_is_named(pki, tmp_path):
    (pki[0] / "client-key.pem").unlink()
    verdict = certificates.verdict({}, "root", NOW, tmp_path)
    assert verdict["reason"] == "/etc/pki/qemu has no client-key.pem"
    elsewhere = certificates.verdict({"migrate_tls_x509_cert_dir": "/etc/tls"}, "root", NOW, tmp_path)
    assert elsewhere["reason"] == "/etc/tls has no ca-cert.pem and no server-cert.pem"


def test_dates(pki, tmp_path):
    _folder, dates = pki
    day = datetime.timedelta(1)
    dates["server-cert.pem"] = Validity(NOW - 9 * day, NOW - day)
    verdict = certificates.verdict({}, "root", NOW, tmp_path)
    assert (verdict["usable"], verdict["reason"]) == (False, "/etc/pki/qemu/server-cert.pem expired on 2026-11-23")
    assert verdict["remedy"] == "renew /etc/pki/qemu/server-cert.pem"
    dates["server-cert.pem"] = Validity(NOW + day, NOW + 9 * day)
    reason = certificates.verdict({}, "root", NOW, tmp_path)["reason"]
    assert reason.startswith("/etc/pki/qemu/server-cert.pem is valid only from 2026-11-25 00:00 UTC on")
    dates["server-cert.pem"] = None
    assert (
        certificates.verdict({}, "root", NOW, tmp_path)["reason"]
        == "/etc/pki/qemu/server-cert.pem is not a certificate"
    )


def test_a_key_that_qemu_may_not_read(pki, tmp_path, monkeypatch):
    class Nobody:
        pw_uid = 64055

    monkeypatch.setattr(certificates.pwd, "getpwnam", lambda name: Nobody)
    verdict = certificates.verdict({}, "libvirt-qemu", NOW, tmp_path)
    assert verdict["reason"] == "QEMU runs as libvirt-qemu, who may not read /etc/pki/qemu/server-key.pem"
    for key in certificates.KEYS:
        (pki[0] / key).chmod(0o640)
    assert certificates.verdict({}, "libvirt-qemu", NOW, tmp_path)["usable"]

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a newcomer's steps are made from: the README, and the settings of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import results

from lab import LabError
from soak.releases import carried, steps
from soak.releases.cli import Report

README = Path(__file__).parents[3] / "README.md"


@pytest.fixture
def readme() -> str:
    return README.read_text(encoding="utf-8")


def test_the_readme_has_each_command_of_a_newcomer(readme):
    commands = {step.name: step.command for step in steps.of_newcomer(readme)}
    assert commands["git clone"].startswith(f"git clone {steps.ADDRESS} ")
    assert commands["make demo"] == "make demo"
    assert f"ansible-galaxy collection install git+{steps.ADDRESS}" in commands["install from git"]
    assert commands["preflight"].endswith("ansible-playbook kvmops.cluster.preflight -i inventory.yml")


def test_the_readme_says_what_to_install_first(readme):
    assert steps.packages(readme) == ["git", "make"]


@pytest.mark.parametrize("word", ["git clone", "make demo", "kvmops.cluster.preflight", "the packages `git`"])
def test_a_readme_that_leaves_a_step_out(readme, word):
    with pytest.raises(steps.ReadmeError):
        steps.of_newcomer(readme.replace(word, "something"))


def test_a_step_waits_for_what_it_needs_and_that_comes_before(readme):
    before: list[str] = []
    for step in steps.of_newcomer(readme):
        assert steps.missing(step, before) == []
        before.append(step.name)
    last = steps.Step("last", "true", needs=("first", "second"))
    assert steps.missing(last, ["second"]) == ["first"]


def test_only_settings_of_the_network_are_carried():
    mine = {"PIP_INDEX_URL": "a", "https_proxy": "b", "NO_PROXY": "c", "SSL_CERT_FILE": "d", "HOME": "e", "PIPE": "f"}
    assert sorted(carried.environment(mine)) == ["NO_PROXY", "PIP_INDEX_URL", "SSL_CERT_FILE", "https_proxy"]


def test_folders_of_packages_are_seen_in_the_root(tmp_path):
    wheels, index, certificate = tmp_path / "wheels", tmp_path / "pypi/simple", tmp_path / "ca.crt"
    for folder in (wheels, index, tmp_path / ".pip"):
        folder.mkdir(parents=True)
    certificate.touch()
    text = f"[global]\ncert = {certificate}\nextra-index-url = https://index/simple file://{index}\n"
    (tmp_path / ".pip/pip.conf").write_text(text, encoding="utf-8")
    mine = {"PIP_FIND_LINKS": f"{wheels} /not/there"}

    assert {wheels, index.parent} <= set(carried.folders(mine, tmp_path))
    assert certificate in carried.named(mine, tmp_path)
    assert certificate not in carried.folders(mine, tmp_path)


def test_only_certificates_become_authorities(tmp_path, monkeypatch):
    authority, constraints, root = tmp_path / "ca.pem", tmp_path / "constraints.txt", tmp_path / "root"
    authority.write_text("-----BEGIN CERTIFICATE-----\nx\n", encoding="ascii")
    constraints.write_text("ansible-core<3\n", encoding="ascii")
    monkeypatch.setattr(carried, "FILES", ())
    monkeypatch.setattr(carried.base_image, "mirror", lambda: "http://mirror/debian")
    monkeypatch.setattr(carried.base_image, "copy_apt_options", lambda root: None)
    (root / "etc/apt").mkdir(parents=True)
    carried.copy_into(root, "trixie", {"PIP_CERT": str(authority), "PIP_CONSTRAINT": str(constraints)}, tmp_path)

    assert [path.name for path in (root / carried.AUTHORITIES).iterdir()] == ["machine-ca.crt"]
    for file in (authority, constraints):
        assert (root / str(file).lstrip("/")).read_bytes() == file.read_bytes()
    sources = (root / "etc/apt/sources.list").read_text(encoding="utf-8")
    assert sources.splitlines() == [f"deb http://mirror/debian {suite} main" for suite in ("trixie", "trixie-updates")]


def test_a_step_that_fails_is_told_and_what_follows_it_goes_on(tmp_path, capsys):
    report = Report()
    with report.step("trixie: one"):
        pass
    with report.step("trixie: two"):
        raise LabError("exit status 2: make demo")
    report.skip("trixie: three", "two failed")
    report.write(tmp_path / "releases.xml")

    assert report.passed("trixie") == ["one"]
    assert report.passed("bookworm") == []
    assert results.count(results.read(tmp_path)) == (1, 1, 1)
    told = capsys.readouterr().out
    assert "exit status 2: make demo" in told
    assert "skipped: two failed" in told


def test_an_interrupt_ends_a_step_and_the_run(capsys):
    report = Report()
    with pytest.raises(KeyboardInterrupt), report.step("trixie: one"):
        raise KeyboardInterrupt
    assert report.results == []
    assert capsys.readouterr().out.rstrip().endswith("interrupted")

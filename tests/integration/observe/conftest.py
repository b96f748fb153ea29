# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Three hosts with a program of Prometheus' on each, and Prometheus itself on this machine."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.session import lab_beside
from lab import Lab

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[2] / "docs/examples/prometheus"
EXPORTER = "/usr/local/bin/exporter-under-test"
TEXTFILES = "/var/lib/prometheus/node-exporter"


def program(name: str) -> str:
    """Return the path of a program; without it there is no test."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} (Debian package of that name) is not installed")
    return found


@pytest.fixture(scope="session")
def cluster() -> Iterator[Lab]:
    """The lab of this folder."""
    with lab_beside(HERE / "observe.yml") as lab:
        yield lab


@dataclass
class Prometheus:
    """A server that scrapes all hosts of the lab each second."""

    port: int

    def get(self, path: str, **words: str) -> Any:
        """Return what its API answers."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(words)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[Any]:
        """Return the series of an expression."""
        return list(self.get("query", query=expression)["result"])

    def scrapes(self, hosts: int) -> bool:
        """Return whether each host has answered with metrics of ours."""
        with contextlib.suppress(OSError):
            return len(self.query("kvmops_written_timestamp_seconds")) == hosts
        return False


@pytest.fixture
def prometheus(lab: Lab, tmp_path: Path) -> Iterator[Prometheus]:
    """Let a real one scrape the hosts, with the rules of the examples."""
    server, exporter = program("prometheus"), Path(program("prometheus-node-exporter")).read_bytes()
    targets = []
    for name, host in lab.hosts.items():
        put = f"cat > {EXPORTER}.new && chmod 755 {EXPORTER}.new && mv {EXPORTER}.new {EXPORTER}"
        subprocess.run(host.ssh_words(put), input=exporter, check=True, timeout=120)
        host.ssh(
            f"mkdir -p {TEXTFILES}; systemd-run --unit=exporter-under-test {EXPORTER} --collector.disable-defaults"
            f" --collector.textfile --collector.textfile.directory={TEXTFILES} --web.listen-address=:9100",
            check=True,
        )
        targets.append({"targets": [f"{host.address}:9100"], "labels": {"instance": name}})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "global": {"scrape_interval": "2s", "evaluation_interval": "2s"},
        "rule_files": [str(EXAMPLES / "kvmops-rules.yml")],
        "scrape_configs": [{"job_name": "hosts", "static_configs": targets}],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    words = [server, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    with (tmp_path / "prometheus.log").open("w") as log:
        running = subprocess.Popen([*words, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    made = Prometheus(port)
    try:
        yield made
    finally:
        running.terminate()
        running.wait(60)
        for host in lab.hosts.values():
            host.ssh("systemctl stop exporter-under-test")

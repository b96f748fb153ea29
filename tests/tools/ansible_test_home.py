# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prepare a home folder in which ansible-test runs without any network but the package index.

ansible-test fills its own virtual environments with a get-pip script that it would download from a server of its
own. Given a script of that name it asks no further, so one is written that installs the very pip it wants from a
wheel. It also passes no PIP_* variable on: pip's settings of this machine are written down for it.

    ansible_test_home.py HOME
"""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

SHIM = '''"""Install pip into the environment that runs this, from a wheel and from nowhere else."""
import sys

WHEEL = {wheel!r}
sys.path.insert(0, WHEEL)
from pip._internal.cli.main import main

sys.exit(main(["install", "--no-index", "--no-deps", "--quiet", WHEEL]))
'''
SETTINGS = ("index-url", "extra-index-url", "find-links", "trusted-host", "cert", "client-cert", "proxy", "timeout")


def wanted_pips() -> list[str]:
    """Return the versions of pip that this ansible-test installs, as its source names them."""
    spec = importlib.util.find_spec("ansible_test")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("ansible-test is not installed: run 'make tools'.")
    source = Path(spec.submodule_search_locations[0], "_internal", "python_requirements.py").read_text(encoding="utf-8")
    versions = re.findall(r"""\bpip['"]?\s*[=:]\s*['"](\d+(?:\.\d+)+)['"]""", source)
    if not versions:
        sys.exit("This ansible-test does not say which pip it wants; tests/tools/ansible_test_home.py must learn how.")
    return sorted(set(versions))


def write_shim(home: Path, version: str) -> None:
    """Download one version of pip and write the script that installs it."""
    shim = home / f".ansible/test/cache/get_pip_{version.replace('.', '_')}.py"
    if shim.is_file():
        return
    wheels = home / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"pip=={version}", "-d", str(wheels)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheel = next(wheels.glob(f"pip-{version}-*.whl"), None)
    if done.returncode or wheel is None:
        sys.exit(f"Could not download pip {version}: {done.stderr.strip()[-500:]}")
    shim.parent.mkdir(parents=True, exist_ok=True)
    shim.write_text(SHIM.format(wheel=str(wheel)), encoding="utf-8")


def pip_settings() -> dict[str, str]:
    """Return where pip looks for packages here; a variable wins over the user's file, and that over the machine's."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    rank = {"global": 0, "site": 1, "user": 2, ":env:": 3, "install": 4}
    found: dict[str, tuple[int, str]] = {}
    for line in listing.splitlines():
        key, dummy, value = line.partition("=")
        section, dummy, name = key.rpartition(".")
        level = rank.get(section, -1)
        if name in SETTINGS and level >= found.get(name, (0, ""))[0]:
            found[name] = (level, str(ast.literal_eval(value)))
    return {name: value for name, (dummy, value) in found.items()}


def main() -> None:
    """Write everything into the folder that was named."""
    home = Path(sys.argv[1]).absolute()
    for version in wanted_pips():
        write_shim(home, version)
    config = home / ".config/pip/pip.conf"
    config.parent.mkdir(parents=True, exist_ok=True)
    lines = ["[global]", "disable-pip-version-check = 1"]
    lines += [f"{name} = {' '.join(value.split())}" for name, value in pip_settings().items()]
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

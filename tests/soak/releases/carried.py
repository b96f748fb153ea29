# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fresh root takes over of this machine: how to reach the network, Debian's packages and Python's, no more."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from lab.image import base_image

VARIABLES = re.compile(
    r"PIP_\w+|(https?|ftp|no|all)_proxy|(SSL_CERT_FILE|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|GIT_SSL_CAINFO)", re.I
)
FILES = ("/etc/hosts", "/etc/resolv.conf", "/etc/pip.conf", "/etc/xdg/pip/pip.conf")
#: Of the user who runs this.
OWN_FILES = (".config/pip/pip.conf", ".pip/pip.conf")
#: update-ca-certificates adds what is here to the authorities that Debian trusts.
AUTHORITIES = "usr/local/share/ca-certificates"
CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


def environment(mine: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that say how to reach the network."""
    return {name: value for name, value in mine.items() if VARIABLES.fullmatch(name)}


def places(text: str) -> Iterator[Path]:
    """Return the local files and folders that the text of a pip.conf or of a variable names.

    >>> [str(place) for place in places("cert = /etc/a.crt\\nextra-index-url = https://b/c file:///srv/pypi/simple")]
    ['/etc/a.crt', '/srv/pypi']
    """
    for word in re.split(r"[\s=,]+", text):
        place = Path(word.removeprefix("file://"))
        if place.is_absolute():
            # The files of a package index are beside its pages.
            yield place.parent if place.name == "simple" else place


def named(mine: Mapping[str, str], home: Path) -> list[Path]:
    """Return all local files and folders that the settings of this machine name, and that exist."""
    texts = list(environment(mine).values())
    configured = [*(Path(file) for file in FILES[2:]), *(home / file for file in OWN_FILES)]
    texts += [file.read_text(encoding="utf-8") for file in configured if file.is_file()]
    return sorted({place for text in texts for place in places(text) if place.exists()})


def folders(mine: Mapping[str, str], home: Path) -> list[Path]:
    """Return the folders that have to be seen in the root."""
    return [place for place in named(mine, home) if place.is_dir()]


def copy_into(root: Path, release: str, mine: Mapping[str, str], home: Path) -> None:
    """Copy the settings into a root."""
    for file in FILES:
        _copy(Path(file), root / file.lstrip("/"))
    for name in OWN_FILES:
        _copy(home / name, root / "root" / name)
    for place in named(mine, home):
        if place.is_file():
            _copy(place, root / str(place).lstrip("/"))
            if CERTIFICATE in place.read_bytes():
                # Otherwise the first package that renews Debian's list of authorities would drop these.
                _copy(place, root / AUTHORITIES / f"machine-{place.stem}.crt")
    address = base_image.mirror()
    suites = (release, f"{release}-updates")
    lines = "".join(f"deb {address} {suite} main\n" for suite in suites)
    (root / "etc/apt/sources.list").write_text(lines, encoding="utf-8")
    base_image.copy_apt_options(root)


def _copy(source: Path, target: Path) -> None:
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copyfile(source, target)


def of_this_user() -> tuple[Mapping[str, str], Path]:
    """Return the variables and the home of whoever runs this."""
    return os.environ, Path.home()

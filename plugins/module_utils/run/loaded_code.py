# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the code that this process has loaded, as one file that outlives it. A host has no Ansible.

from __future__ import annotations

import io
import sys
import typing as t
import zipfile

COLLECTION = ("ansible_collections.kvmops.cluster.",)
#: What of the collection a program needs, and what that needs of Ansible.
PACKAGES = (*COLLECTION, "ansible.")
_MAIN = """import os
import sys

from {module} import main

sys.exit(main(os.path.dirname(os.path.abspath(sys.argv[0]))))
"""
#: Equal code is an equal file, whenever it is made. A ZIP file knows no earlier year.
_TIME = (1980, 1, 1, 0, 0, 0)


def program(entry: str, packages: tuple[str, ...] = PACKAGES) -> bytes:
    """The code of the collection and of Ansible that this process has loaded, as a ZIP file that Python runs.

    Args:
        entry: name of a module, which is loaded. Its C(main) gets the folder that the file is in.
        packages: beginnings of the names of modules. Without those of Ansible, the file is the same whatever Ansible
            brings it.
    """
    loaded = {name: _source(module) for name, module in list(sys.modules.items()) if name.startswith(packages)}
    sources = {name: source for name, source in loaded.items() if source is not None}
    folders = {name.rpartition(".")[0] for name in sources}
    for name in list(folders):
        words = name.split(".")
        folders.update(".".join(words[:count]) for count in range(1, len(words)))
    folders.update(name for name in sources if hasattr(sys.modules[name], "__path__"))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as code:
        _add(code, "__main__.py", _MAIN.format(module=entry))
        for name in sorted(folders - {""}):
            _add(code, f"{name.replace('.', '/')}/__init__.py", sources.get(name, ""))
        for name in sorted(set(sources) - folders):
            _add(code, f"{name.replace('.', '/')}.py", sources[name])
    return made.getvalue()


def _add(code: zipfile.ZipFile, name: str, text: str) -> None:
    code.writestr(zipfile.ZipInfo(name, _TIME), text, zipfile.ZIP_DEFLATED)


def _source(module: t.Any) -> str | None:
    """The text of a module; None: it has none, as it is made by another one."""
    spec = getattr(module, "__spec__", None)
    loader: t.Any = getattr(spec, "loader", None)
    if spec is None or not hasattr(loader, "get_source"):
        return None
    source: str | None = loader.get_source(spec.name)
    return source

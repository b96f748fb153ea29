# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Sphinx makes the site with. Everything that a page needs is in the site; nothing is asked of the network."""

from __future__ import annotations

import zlib
from pathlib import Path

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

project = "kvmops.cluster"
author = "kvmops.cluster contributors"
project_copyright = f"2026, {author}"
release = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]

extensions = ["myst_parser", "sphinx.ext.intersphinx", "sphinx_antsibull_ext"]
# Examples in the documentation of plugins are YAML with Jinja.
highlight_language = "YAML+Jinja"
default_role = "any"
nitpicky = True
smartquotes = False

# Headings are linked as GitHub does it.
myst_heading_anchors = 4
# Nothing that GitHub would show in another way.
myst_enable_extensions: list[str] = []

html_theme = "furo"
html_title = f"kvmops.cluster {release}"
html_static_path = [str(HERE / "static")]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_use_index = False


def inventory() -> Path:
    """Write what antsibull-docs links to in Ansible's own documentation, in the form that Sphinx reads."""
    lines = (HERE / "ansible.inventory").read_text(encoding="utf-8").splitlines()
    told = "".join(f"{line}\n" for line in lines if line and not line.startswith("#"))
    head = "# Sphinx inventory version 2\n# Project: Ansible\n# Version: \n# The remainder is compressed using zlib.\n"
    path = ROOT / "build/docs-ansible.inv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head.encode() + zlib.compress(told.encode()))
    return path


intersphinx_mapping = {"ansible": ("https://docs.ansible.com/projects/ansible/devel/", str(inventory()))}

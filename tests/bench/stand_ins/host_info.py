# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stands in for host_info where there is no hypervisor: the snapshot is in a file."""

from __future__ import annotations

import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Return the file's snapshot."""
    arguments = {"name": {}, "uri": {}, "state_dir": {}, "cpu_sample_s": {"type": "float"}}
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)  # type: ignore[no-untyped-call]
    snapshot = Path(module.params["state_dir"], "snapshot.json").read_text(encoding="utf-8")
    module.exit_json(changed=False, snapshot=json.loads(snapshot))


if __name__ == "__main__":
    main()

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stands in for working_set_info in check mode, where it returns what was measured before: that is in a file."""

from __future__ import annotations

import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Return the file's working sets."""
    arguments = {
        "name": {}, "guests": {"type": "list"}, "budget_s": {"type": "float"}, "allow_monitor": {"type": "bool"},
        "bandwidth_mib_s": {"type": "int"}, "uri": {}, "state_dir": {},
    }  # fmt: skip
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)  # type: ignore[no-untyped-call]
    measured = Path(module.params["state_dir"], "working_sets.json").read_text(encoding="utf-8")
    module.exit_json(changed=False, working_sets=json.loads(measured), refusals=[], calibration={})


if __name__ == "__main__":
    main()

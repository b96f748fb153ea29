# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stands in for migration_path_info: every way is open."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

CHECKS = ("connect", "identity", "versions", "encryption", "ports", "cpu", "mtu")
OK = {"ok": True, "code": None, "reason": None, "remedy": None}


def main() -> None:
    """Return a path to each destination."""
    arguments = {
        "name": {}, "uri": {}, "destinations": {"type": "list", "elements": "dict"}, "encryption": {},
        "timeout_s": {"type": "float"},
    }  # fmt: skip
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)  # type: ignore[no-untyped-call]
    checks = [{"check": name, **OK} for name in CHECKS]
    paths = [
        {
            "schema": "kvmops.path/1",
            "source": module.params["name"],
            "destination": end["name"],
            "ok": True,
            "checks": checks,
        }
        for end in module.params["destinations"]
    ]
    module.exit_json(changed=False, paths=paths)


if __name__ == "__main__":
    main()

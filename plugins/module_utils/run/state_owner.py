# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: records belong to whom their folder belongs to. Where the role secure_hosts has given it to
# a user, a run of root leaves nothing there that this user could not read or change.

from __future__ import annotations

import contextlib
import os
import stat


def give_to_owner(state_dir: str) -> None:
    """Give what root has made in the folder for records to the owner of that folder.

    Nothing is followed, and what has another name elsewhere is left: this user could have put it there.
    """
    if os.geteuid() != 0:
        return
    with contextlib.suppress(OSError):
        owner = os.lstat(state_dir)
        if not stat.S_ISDIR(owner.st_mode) or owner.st_uid == 0:
            return
        for _path, folders, files, folder in os.fwalk(state_dir):
            for name in (*folders, *files):
                with contextlib.suppress(OSError):
                    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    alone = stat.S_ISDIR(found.st_mode) or found.st_nlink == 1
                    if found.st_uid == 0 and alone:
                        os.chown(name, owner.st_uid, owner.st_gid, dir_fd=folder, follow_symlinks=False)

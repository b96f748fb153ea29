# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: work that goes on in another thread for as long as a migration does.

from __future__ import annotations

import contextlib
import threading
import typing as t


@contextlib.contextmanager
def beside(name: str, work: t.Callable[[threading.Event], None]) -> t.Iterator[None]:
    """While inside, do this work as well.

    Args:
        name: of the thread.
        work: ends soon after the event that it is given was set.
    """
    over = threading.Event()
    thread = threading.Thread(target=work, args=(over,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()

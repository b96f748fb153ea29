# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the host's lease, kept in a file on the host. A lease belongs to a playbook and lasts for a
# time. What keeps two processes from moving guests at the same time is the run lock (run_lock.py).

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import threading
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import lease as leases
from ansible_collections.kvmops.cluster.plugins.module_utils.core.lease import Claim, Lease, LeaseError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.lease_clock import Moment
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.run import file_lock
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import read_file, remedy_of, write_durably
from ansible_collections.kvmops.cluster.plugins.module_utils.run.this_boot import boot_id, uptime_s

FILE = "lease.json"
LOCK = "lease.lock"

#: The lock is held only while one small file is read and written.
LOCK_TIMEOUT_S = 10.0
LOCK_POLL_S = 0.02
#: The lease of a host that is taken is read again this often.
WAIT_POLL_S = 1.0
#: A lease is renewed so many times before it would end.
RENEWALS = 3


class Outcome(t.NamedTuple):
    """The host's lease before and after; ``broken`` when the one before could not be read, ``waited`` when another run
    had it first.
    """

    before: Lease
    after: Lease
    broken: bool = False
    waited: bool = False


def clock() -> Moment:
    """Now, by the clocks by which leases end."""
    return Moment(datetime.datetime.now(datetime.timezone.utc), boot_id(), uptime_s())


def load(state_dir: str, host: str) -> Lease:
    """The host's lease; free when there has never been one. Reads only.

    Raises:
        LeaseError: it cannot be read.
    """
    path = os.path.join(state_dir, FILE)
    try:
        text = read_file(path, leases.MOST_BYTES)
    except FileNotFoundError:
        return dict(leases.FREE)
    except PermissionError as error:
        raise LeaseError(
            refusal(
                "lease_unreadable",
                f"the lease of {host} in {path} cannot be read: {error.strerror or error}; so {host} counts as taken",
                "run as root (become: true), and look at that file",
            )
        ) from error
    except OSError as error:
        raise leases.damaged(host, path, error.strerror or str(error)) from error
    return leases.parsed(text, host, path)


def take(state_dir: str, claim: Claim, *, wait_s: float = 0, write: bool = True) -> Outcome:
    """Take the host's lease, or renew it.

    Args:
        claim: who asks, and for how long.
        wait_s: how long to wait for another run that has it.
        write: False only looks whether it could be had, now.

    Raises:
        LeaseError: it could not be had, or not be written.
    """
    end = time.monotonic() + (wait_s if write else 0)
    waited = False
    while True:
        try:
            taken = _change(
                state_dir,
                claim.host,
                lambda lease, now: leases.take(lease, claim, now),
                write=write,
                force=claim.force,
            )
            return taken._replace(waited=waited)
        except LeaseError as error:
            rest_s = end - time.monotonic()
            if error.refusal["code"] != "lease_held" or rest_s <= 0:
                raise
            time.sleep(min(WAIT_POLL_S, rest_s))
            waited = True


def release(state_dir: str, claim: Claim, *, write: bool = True) -> Outcome:
    """Give the host's lease back. If another run has it now, it stays as it is, unless force breaks it.

    Raises:
        LeaseError: it cannot be read, or not be written.
    """
    if not os.path.lexists(os.path.join(state_dir, FILE)):
        return Outcome(dict(leases.FREE), dict(leases.FREE))
    return _change(
        state_dir, claim.host, lambda lease, now: leases.release(lease, claim, now), write=write, force=claim.force
    )


def start_refusal(state_dir: str, fence: int, host: str) -> Refusal | None:
    """Why nothing more may be begun on this host with a lease that was taken earlier, or None."""
    try:
        return leases.start_refusal(load(state_dir, host), fence, host)
    except LeaseError as error:
        return error.refusal


def start_check(state_dir: str, fence: int | None, host: str) -> t.Callable[[], Refusal | None]:
    """What tells a run, at each step, whether the lease that it works under lets it begin. Without a fence, always.

    Raises:
        LeaseError: it does not even now.
    """
    if fence is None:
        return lambda: None
    why = start_refusal(state_dir, fence, host)
    if why:
        raise LeaseError(why)
    return functools.partial(start_refusal, state_dir, fence, host)


@contextlib.contextmanager
def keep_renewed(state_dir: str, fence: int | None, host: str) -> t.Iterator[None]:
    """Renew the lease with this fence as long as the block takes. So a lease can be short. Without one, do nothing.

    A renewal that fails ends nothing: before each step the lease is checked anyway.
    """
    if fence is None:
        yield
        return
    ended = threading.Event()
    keeper = threading.Thread(target=_renew, args=(state_dir, fence, host, ended), name="lease", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()


def _renew(state_dir: str, fence: int, host: str, ended: threading.Event) -> None:
    pause_s = 0.0
    while not ended.wait(pause_s):
        pause_s = WAIT_POLL_S
        with contextlib.suppress(LeaseError):
            renewed = _change(state_dir, host, lambda lease, now: leases.renew(lease, fence, now)).after
            pause_s = (renewed["ttl_s"] or RENEWALS * WAIT_POLL_S) / RENEWALS


def _change(
    state_dir: str, host: str, decide: t.Callable[[Lease, Moment], Lease], *, write: bool = True, force: bool = False
) -> Outcome:
    """Replace the lease by what is decided from the present one, under the lock."""
    with _locked(state_dir, host) if write else contextlib.nullcontext():
        broken = False
        try:
            before = load(state_dir, host)
        except LeaseError as error:
            broken = force and error.refusal["code"] == "lease_damaged"
            if not broken:
                raise
            before = dict(leases.FREE)
        now = clock()
        bound = leases.bound(before, now)
        try:
            after = decide(bound, now)
        except LeaseError:
            # Whoever has it keeps it, but from now on it ends by a clock that nobody sets.
            if write and bound != before:
                with contextlib.suppress(LeaseError):
                    _store(state_dir, bound)
            raise
        if write and (broken or after != before):
            _store(state_dir, after)
        return Outcome(before, after, broken)


@contextlib.contextmanager
def _locked(state_dir: str, host: str) -> t.Iterator[None]:
    path = os.path.join(state_dir, LOCK)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock.locked(path, LOCK_TIMEOUT_S, LOCK_POLL_S))
        except OSError as error:
            raise _unwritable(state_dir, error) from error
        except file_lock.StillLockedError as error:
            raise LeaseError(
                refusal(
                    "lease_locked",
                    f"another process has been writing the lease of {host} for more than {LOCK_TIMEOUT_S:g} s",
                    f"see which one it is, on {host}: fuser -v {path}",
                )
            ) from error
        yield


def _store(state_dir: str, lease: Lease) -> None:
    try:
        write_durably(os.path.join(state_dir, FILE), lease)
    except OSError as error:
        raise _unwritable(state_dir, error) from error


def _unwritable(state_dir: str, error: OSError) -> LeaseError:
    return LeaseError(
        refusal(
            "lease_not_written",
            f"the lease cannot be written in {state_dir}: {error.strerror or error}",
            remedy_of(error),
        )
    )

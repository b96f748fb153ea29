# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: asks how much memory guests dirty in a window. Page sampling only: it reads some pages at
# the start and at the end of the window and counts those that differ. The other modes can stop or kill a guest.

from __future__ import annotations

import contextlib
import json
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import json_text, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.page_sampling import (
    LIBVIRT_SAMPLES_PER_GIB,
    Reading,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import UnansweredError, each, within
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import guest_state

#: The most samples that QEMU takes.
MONITOR_SAMPLES_PER_GIB = 16384
#: A measurement ends some 20 ms after its window. A busy host may take this long.
GRACE_S = 5.0
POLL_S = 0.02
_BUSY = "already being measured"


Answer = t.Union[Reading, Refusal]
#: Takes guests, and the seconds that there are.
Meanwhile = t.Callable[[t.Sequence[t.Any], float], None]


class Sampler(t.Protocol):
    """Measures by a call: libvirt's or QEMU's."""

    samples_per_gib: int

    def start(self, domain: t.Any, window_s: float) -> None:
        """Start a measurement. It goes on by itself."""

    def result(self, domain: t.Any) -> int | None:
        """MiB/s of the measurement that was started, or None while it runs."""


class LibvirtSampler:
    """libvirt's own call: few samples, whole seconds, no trace on the guest."""

    samples_per_gib = LIBVIRT_SAMPLES_PER_GIB

    def start(self, domain: t.Any, window_s: float) -> None:
        """Start a measurement of whole seconds."""
        # 0 is VIR_DOMAIN_DIRTYRATE_MODE_PAGE_SAMPLING, which the binding of libvirt 9.0 already has.
        domain.startDirtyRateCalc(max(1, round(window_s)), virt.libvirt.VIR_DOMAIN_DIRTYRATE_MODE_PAGE_SAMPLING)

    def result(self, domain: t.Any) -> int | None:
        """Whole MiB/s, once it is done."""
        group = virt.libvirt.VIR_DOMAIN_STATS_DIRTYRATE
        ((_domain, statistics),) = domain.connect().domainListGetStats([domain], group)
        if statistics.get("dirtyrate.calc_status") != virt.libvirt.VIR_DOMAIN_DIRTYRATE_MEASURED:
            return None
        return int(statistics["dirtyrate.megabytes_per_second"])


_ANSWER = shape.mapping(
    {},
    {
        "error": shape.mapping({}, {"desc": shape.text()}, others=True),
        "return": shape.mapping({}, {"status": shape.text(), "dirty-rate": shape.whole(0)}, others=True),
    },
    others=True,
)


class MonitorSampler:
    """QEMU's own call through libvirt's monitor passthrough: many samples, short windows; it taints the guest."""

    samples_per_gib = MONITOR_SAMPLES_PER_GIB

    def start(self, domain: t.Any, window_s: float) -> None:
        """Start a measurement of milliseconds (QEMU 8.2 or later)."""
        arguments = {
            "calc-time": max(50, round(window_s * 1000)),
            "calc-time-unit": "millisecond",
            "sample-pages": self.samples_per_gib,
            "mode": "page-sampling",
        }
        self._ask(domain, "calc-dirty-rate", arguments)

    def result(self, domain: t.Any) -> int | None:
        """Whole MiB/s, once it is done."""
        answer = self._ask(domain, "query-dirty-rate", {"calc-time-unit": "millisecond"})
        return int(answer["dirty-rate"]) if answer.get("status") == "measured" else None

    def _ask(self, domain: t.Any, command: str, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        import libvirt_qemu  # the binding's second half, which only this needs

        text = libvirt_qemu.qemuMonitorCommand(domain, json.dumps({"execute": command, "arguments": arguments}), 0)
        return _returned(text)


def _returned(text: str) -> dict[str, t.Any]:
    """What QEMU returned.

    Raises: MonitorError when it refused, or when its answer is none that it gives.
    """
    try:
        answer = json_text.parsed(text)
        _ANSWER(answer, "its answer")
    except ValueError as error:
        raise MonitorError(f"QEMU's answer cannot be read: {error}") from error
    if "error" in answer:
        raise MonitorError(answer["error"].get("desc", str(answer["error"])))
    return t.cast("dict[str, t.Any]", answer.get("return", {}))


class MonitorError(Exception):
    """QEMU refused a command."""


def measure(
    domains: t.Sequence[t.Any],
    sampler: Sampler,
    window_s: float,
    meanwhile: Meanwhile | None = None,
) -> list[Answer]:
    """Measure guests of one host at the same time. That takes as long as for one, and disturbs none (measured).

    Args:
        domains: running guests.
        sampler: how.
        window_s: over how long.
        meanwhile: what else to do with the guests that are being measured, for the seconds of the window.

    Returns: for each guest a reading, or why there is none. A measurement of somebody else's that is under way is
        awaited, since QEMU makes one at a time.
    """
    begun = each(domains, lambda domain: _begin(domain, sampler, window_s))
    running = [domain for domain, answer in zip(domains, begun) if answer is None]
    finished = dict(zip((_key(one) for one in running), _collect(running, sampler, window_s, meanwhile)))
    return [
        finished[_key(domain)] if answer is None else _refused(domain, answer) for domain, answer in zip(domains, begun)
    ]


def _begin(domain: t.Any, sampler: Sampler, window_s: float) -> None:
    if guest_state.is_migrating(domain):
        raise virt.VirtError(
            refusal(
                "migrating",
                f"{domain.name()} is being migrated, so it is not measured now",
                "measure it again once the migration is over",
            )
        )
    end = time.monotonic() + _timeout_s(window_s)
    while True:
        try:
            return sampler.start(domain, window_s)
        except (virt.libvirt.libvirtError, MonitorError) as error:
            if _BUSY not in str(error) or time.monotonic() >= end:
                raise
        time.sleep(POLL_S)


def _timeout_s(window_s: float) -> float:
    """How long somebody else's measurement is awaited. It is most likely as long as this one."""
    return window_s + 1.0


def _collect(
    domains: t.Sequence[t.Any], sampler: Sampler, window_s: float, meanwhile: Meanwhile | None
) -> list[Answer]:
    over = time.monotonic() + window_s
    if meanwhile:
        meanwhile(domains, window_s)
    time.sleep(max(0.0, over - time.monotonic()))
    end = time.monotonic() + GRACE_S
    answers: dict[str, Answer] = {}
    while True:
        waiting = [domain for domain in domains if _key(domain) not in answers]
        for domain, value in zip(waiting, each(waiting, sampler.result)):
            if isinstance(value, Exception):
                answers[_key(domain)] = _refused(domain, value)
            elif value is not None:
                answers[_key(domain)] = Reading(window_s, value, sampler.samples_per_gib)
        if len(answers) == len(domains):
            return [answers[_key(domain)] for domain in domains]
        if time.monotonic() >= end:
            return [answers.get(_key(domain)) or _refused(domain, UnansweredError()) for domain in domains]
        time.sleep(POLL_S)


def _key(domain: t.Any) -> str:
    return t.cast(str, domain.UUIDString())


def _refused(domain: t.Any, error: Exception) -> Refusal:
    if isinstance(error, virt.VirtError):
        return error.refusal
    name = domain.name()
    if isinstance(error, UnansweredError):
        return refusal(
            "not_answering",
            f"{name} did not answer the measurement in time",
            "look at its QEMU process on the host (is it stopped, or waiting for storage?), and measure it again",
        )
    if _BUSY in str(error):
        return refusal(
            "being_measured",
            f"{name} is being measured by somebody else",
            "try again in a minute; QEMU measures one at a time",
        )
    return refusal("not_measured", f"{name} could not be measured: {error}", "see journalctl -u libvirtd -u virtqemud")


def monitor_usable(domain: t.Any) -> bool:
    """Whether QEMU's own call knows short windows (8.2 or later). Asks nothing of the guest's state, but taints it."""
    with contextlib.suppress(virt.libvirt.libvirtError, MonitorError, ImportError, UnansweredError):
        within(2.0, lambda: MonitorSampler().result(domain))
        return True
    return False

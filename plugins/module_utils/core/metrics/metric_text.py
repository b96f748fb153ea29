# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Metrics as the text that Prometheus' exporters read (text format 0.0.4).

A file with one fault in it is left out as a whole. So a value that is no number is left out here, and so is the second
of two series with the same labels.
"""

from __future__ import annotations

import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.metrics.metric_table import METRICS
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import one_line

#: Names are of guests, hosts and runs. Nobody reads a longer one in a chart.
MOST_OF_LABEL = 200
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}


class Sample(t.NamedTuple):
    """One value of a metric.

    Attributes:
        name: of a metric of the table.
        value: None, if it is not known: then there is no such series.
        labels: all those that the metric has.
    """

    name: str
    value: float | None
    labels: t.Mapping[str, t.Any] = {}


def text_of(samples: t.Iterable[Sample]) -> str:
    """The content of a file.

    >>> print(text_of([Sample("kvmops_host_guests", 2)]), end="")
    # HELP kvmops_host_guests Guests that are not shut off.
    # TYPE kvmops_host_guests gauge
    kvmops_host_guests 2
    """
    by_name: dict[str, dict[str, str]] = {metric.name: {} for metric in METRICS}
    expected = {metric.name: metric.labels for metric in METRICS}
    for sample in samples:
        if set(sample.labels) != set(expected[sample.name]):
            raise ValueError(f"{sample.name} has the labels {', '.join(expected[sample.name])}")
        if sample.value is not None and math.isfinite(sample.value):
            labels = _labels({name: sample.labels[name] for name in expected[sample.name]})
            by_name[sample.name].setdefault(labels, _number(sample.value))
    lines = []
    for metric in METRICS:
        series = by_name[metric.name]
        if series:
            lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} gauge"]
            lines += [f"{metric.name}{labels} {value}" for labels, value in series.items()]
    return "".join(f"{line}\n" for line in lines)


def _labels(labels: t.Mapping[str, t.Any]) -> str:
    shown = ",".join(f'{name}="{label_value(value)}"' for name, value in labels.items())
    return f"{{{shown}}}" if shown else ""


def label_value(value: t.Any) -> str:
    """A value between quotes. Whoever names a guest chooses it.

    >>> label_value('a"b\\\\c'), label_value(None), label_value("web1\\n# TYPE x counter")
    ('a\\\\"b\\\\\\\\c', '', 'web1 # TYPE x counter')
    """
    line = "" if value is None else one_line(value, MOST_OF_LABEL)
    return "".join(_ESCAPES.get(char, char) for char in line)


def _number(value: float) -> str:
    """Whole numbers without a fraction: sizes are exact that way."""
    return str(int(value)) if value == int(value) and abs(value) < 2**63 else repr(float(value))

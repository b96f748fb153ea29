# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Orders to one module that cannot be carried out: each is refused with its reason, and changes nothing.

One play gives all orders, one after the other; each test looks at the answer to one of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from harness import actual_state
from harness.operator import Operator
from harness.tidy import mend, tidy
from lab import Lab

#: Defines a guest that is like another one, under another name.
LIKE = "virsh dumpxml {guest} --inactive | sed 's/<name>{guest}/<name>{name}/; /<uuid>/d; /<mac /d' > /run/{name}.xml"
BOB = {"owner": "bob@admin2", "reason": "new disks"}


@dataclass(frozen=True)
class Order:
    """A module, its arguments, and what the refusal says.

    Attributes:
        name: what is wrong with the order.
        texts: what the answer must hold.
        prepare: what to do before, by host.
        undo: what to do after all orders, by host.
    """

    name: str
    module: str
    arguments: dict[str, Any]
    texts: tuple[str, ...]
    host: str = "h1"
    prepare: dict[str, str] = field(default_factory=dict)
    undo: dict[str, str] = field(default_factory=dict)


def move(guest: str, to: str = "h2", **more: Any) -> dict[str, Any]:
    """The arguments of a move away from h1."""
    return {"guest": guest, "destination": to, "destination_uri": f"qemu+ssh://root@{to}/system", **more}


ORDERS = [
    Order(
        "source and destination have one name",
        "domain_migrate",
        move("idle", to="h1"),
        ("source and destination are the same host",),
    ),
    Order(
        "source and destination are one host",
        "domain_migrate",
        {**move("idle"), "destination_uri": "qemu+ssh://root@h1/system"},
        ("say they are the same host",),
    ),
    Order(
        "no such guest",
        "domain_migrate",
        move("web-on"),
        ("there is no guest web-on on h1, nor on h2", "did you mean web-one?"),
    ),
    Order(
        "too little memory at the destination",
        "domain_migrate",
        move("idle", reserve_mib=10_000_000),
        ("idle", "h2", "free"),
    ),
    Order(
        "a guest that is shut off",
        "domain_migrate",
        move("sleeper"),
        ("sleeper", "shut off"),
        prepare={"h1": f"{LIKE.format(guest='idle', name='sleeper')} && virsh -q define /run/sleeper.xml"},
        undo={"h1": "virsh -q undefine sleeper"},
    ),
    Order(
        "a guest that is paused",
        "domain_migrate",
        move("shy"),
        ("shy", "paused", "virsh resume shy"),
        prepare={"h1": "virsh -q suspend shy"},
        undo={"h1": "virsh -q resume shy"},
    ),
    Order(
        "a name that the destination knows already",
        "domain_migrate",
        move("busy"),
        ("h2 already has another guest called busy", "virsh domrename"),
        prepare={"h2": f"{LIKE.format(guest='web-two', name='busy')} && virsh -q define /run/busy.xml"},
        undo={"h2": "virsh -q undefine busy"},
    ),
    Order(
        "a destination that is closed",
        "domain_migrate",
        move("idle", to="h3"),
        ("h3 is cordoned", "since 20", "bob@admin2", "new disks"),
    ),
    Order(
        "maintenance of a host with guests",
        "host_maintenance",
        {"name": "h2", "state": "maintenance", **BOB},
        ("h2 cannot go into maintenance: web-two still runs there", "drain the host first"),
        host="h2",
    ),
]
#: Plans that cannot be used, and what is said of each.
PLANS = {
    "cut short": ("plan.json cannot be used: the plan is cut short",),
    "another version": ("the plan has version 2, and this release", "reads version 1"),
    "another cluster": ("h1 is not the host that plan by-hand was made for",),
    "not there": ("no-such-plan.json cannot be read: No such file or directory",),
}


def a_plan(lab: Lab, **changes: Any) -> dict[str, Any]:
    """A plan that moves one guest from h1 to h2."""

    def uuid(name: str) -> str:
        xml = lab.host(name).ssh("virsh capabilities", check=True).stdout
        return xml.split("<uuid>", 1)[1].split("</uuid>", 1)[0]

    hosts = {
        name: {
            "host_uuid": uuid(name),
            "connect_uri": f"qemu+ssh://root@{name}/system",
            "migration_address": lab.host(name).migration_address,
        }
        for name in ("h1", "h2")
    }
    step = {
        "id": "s001",
        "guest": {"name": "idle", "uuid": lab.guest("idle").uuid},
        "source": "h1",
        "destination": "h2",
        "memory_bytes": 128 * 1024 * 1024,
        "intent": {},
        "reason": "by hand",
        "strategy": None,
        "forecast": None,
        "after": [],
    }
    return {
        "schema": "kvmops.plan/1",
        "id": "by-hand",
        "goal": {"kind": "drain", "hosts": ["h1"]},
        "created_at": "2026-11-24T02:00:00Z",
        "intent": {},
        "snapshots": {},
        "hosts": hosts,
        "steps": [step],
        "stays": [],
        "off": [],
        "expected": {"seconds": None, "fits_window": None},
        **changes,
    }


def write_plans(lab: Lab, operator: Operator) -> list[Order]:
    """Write the plans that cannot be used; return an order for each."""
    whole = a_plan(lab)
    other = json.loads(json.dumps(whole))
    other["hosts"]["h1"]["host_uuid"] = "11111111-2222-3333-4444-555555555555"
    text = json.dumps(whole)
    contents = {
        "cut short": text[: len(text) // 2],
        "another version": json.dumps({**whole, "schema": "kvmops.plan/2"}),
        "another cluster": json.dumps(other),
    }
    orders = []
    for what, texts in PLANS.items():
        folder = operator.folder / what.replace(" ", "-")
        folder.mkdir()
        path = folder / "plan.json"
        if what in contents:
            path.write_text(contents[what], encoding="utf-8")
        else:
            path = folder / "no-such-plan.json"
        orders.append(Order(what, "plan_apply", {"plan_path": str(path)}, texts))
    return orders


def play(orders: list[Order], answers: str) -> str:
    """A playbook that gives all orders, each to its host, and writes the answers down."""
    close = {"name": "h3", "state": "cordoned", **BOB}
    tasks: list[dict[str, Any]] = [{"name": "Close h3", "kvmops.cluster.host_maintenance": close, "delegate_to": "h3"}]
    tasks += [
        {
            "name": order.name,
            f"kvmops.cluster.{order.module}": order.arguments,
            "delegate_to": order.host,
            "register": f"answer_{number}",
            "ignore_errors": True,
        }
        for number, order in enumerate(orders)
    ]
    told = ", ".join(f"{order.name!r}: answer_{number}" for number, order in enumerate(orders))
    keep = {"content": f"{{{{ {{{told}}} | to_json }}}}", "dest": answers, "mode": "0600"}
    tasks.append({"name": "Write the answers down", "ansible.builtin.copy": keep, "delegate_to": "localhost"})
    return yaml.safe_dump([{"name": "Give orders", "hosts": "h1", "gather_facts": False, "tasks": tasks}])


@pytest.fixture(scope="module")
def answers(cluster: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """The answer to each order, and that nothing was changed by any."""
    lab = tidy(cluster)
    operator = Operator(lab, tmp_path_factory.mktemp("orders"), without=("h4",))
    for order in ORDERS:
        for host, command in order.prepare.items():
            lab.host(host).ssh(command, check=True)
    before = actual_state.everywhere(lab)
    orders = [*ORDERS, *write_plans(lab, operator)]
    outcome = operator.run_file(operator.write("orders.yml", play(orders, str(operator.folder / "answers.json"))))
    assert outcome.status == 0, outcome.text
    assert actual_state.everywhere(lab) == before
    yield json.loads((operator.folder / "answers.json").read_text(encoding="utf-8"))
    for order in ORDERS:
        for host, command in order.undo.items():
            lab.host(host).ssh(command, check=True)
    mend(lab)
    operator.leave()


def check_refused(answer: dict[str, Any], *texts: str) -> None:
    """The order failed, with these texts."""
    assert answer["failed"], answer
    for text in texts:
        assert text in answer["msg"], answer


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.name)
def test_an_order_is_refused_with_its_reason(answers: dict[str, dict[str, Any]], order: Order) -> None:
    check_refused(answers[order.name], *order.texts)


@pytest.mark.parametrize("what", PLANS)
def test_a_plan_that_cannot_be_used_is_refused_with_its_reason(answers: dict[str, dict[str, Any]], what: str) -> None:
    check_refused(answers[what], *PLANS[what])

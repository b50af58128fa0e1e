"""Events that no plugin has a hook for, and events of a type that no hook has: shown, counted, listed, repaired."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from running import RunningGateway, eventually, running

LEDGER = """
from gateway import hookimpl

class Plugin:
    @hookimpl
    async def on_payment(self, event, payload):
        print(f"ledger got {event.id} {event.hook} {event.replayed}", flush=True)
"""
TABLES = '[plugins.ledger]\n[hooks.payment]\ntypes = ["webioPay"]\n'


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    """It has one plugin, `ledger`, which takes payments only."""
    with running(tmp_path, TABLES, plugins={"ledger": LEDGER}) as started:
        yield started


def post(gateway: RunningGateway, *bodies: dict[str, Any]) -> list[str]:
    """Their ids."""
    answers = []
    with gateway.client() as client:
        for body in bodies:
            answers.append(client.post(json.dumps(body).encode()))
    return [str(answer.document["id"]) for answer in answers]


def listed(gateway: RunningGateway, *arguments: str) -> list[dict[str, Any]]:
    result = gateway.cli("events", *arguments, "--json")
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def ready(gateway: RunningGateway) -> dict[str, Any]:
    document: dict[str, Any] = httpx.get(f"{gateway.admin_url}/health/ready").json()
    return document


def test_an_event_that_no_plugin_has_a_hook_for_has_no_taker(gateway: RunningGateway) -> None:
    """It is not shown as delivered: not in the table, in full, as JSON or by the filter."""
    paid, closed, odd = post(
        gateway, {"type": "payment"}, {"type": "conversationClosed"}, {"type": "payment", "conversationId": {}}
    )
    eventually(lambda: [row["state"] for row in listed(gateway, paid)] == ["delivered"])
    rows = {row["id"]: row for row in listed(gateway)}
    assert {key: (row["state"], row["deliveries"]) for key, row in rows.items()} == {
        paid: ("delivered", {"ledger": "delivered"}),
        closed: ("no taker", {}),
        odd: ("no taker", {}),
    }
    for spelling in ("no taker", "no-taker"):
        assert [row["id"] for row in listed(gateway, "--state", spelling)] == [closed, odd]
    assert [row["id"] for row in listed(gateway, "--state", "delivered", "--plugin", "ledger")] == [paid]
    for shown in (gateway.cli("events", closed).stdout, gateway.cli("events", closed, "--show").stdout):
        assert "no taker" in shown
        assert "delivered" not in shown


def test_unknown_types_are_listed_with_what_to_add(gateway: RunningGateway) -> None:
    """By `gateway check` and `/health/ready`, with their number, the first and the last; a metric counts them."""
    assert "gateway_unknown_events_total 0.0\n" in httpx.get(f"{gateway.admin_url}/metrics").text
    post(gateway, {"type": "paymentDone", "n": 1}, {"type": "paymentDone", "n": 2}, {"type": "call 447700900123"}, {})
    eventually(lambda: len(ready(gateway)["unknown"]) == 3)
    unknown = {one["name"]: one for one in ready(gateway)["unknown"]}
    assert {name: one["count"] for name, one in unknown.items()} == {"paymentDone": 2, "call …": 1, None: 1}
    assert unknown["paymentDone"]["first"] < unknown["paymentDone"]["last"]
    advice = 'if you know its hook, add to [hooks.payment] in the config: types = ["webioPay", "paymentDone"]'
    assert unknown["paymentDone"]["advice"] == advice
    assert "gateway_unknown_events_total 4.0\n" in httpx.get(f"{gateway.admin_url}/metrics").text
    for _ in range(2):
        warnings = json.loads(gateway.cli("check", "--json").stdout)["warnings"]
        told = [one["message"] for one in warnings if one["path"] == "hooks"]
        assert len(told) == 3
        assert told[0].startswith('an event of the type "paymentDone": 2 events kept as unknown (first ')
        assert told[0].endswith(f" UTC); {advice}")
        assert "447700900123" not in "".join(told)
        gateway.stop()  # the second time without a gateway
    gateway.start()


def test_what_was_unknown_is_delivered_once_after_the_repair(gateway: RunningGateway) -> None:
    """It counts as its hook then. A second `replay --unknown` finds nothing to deliver, and says so."""
    kept, other = post(gateway, {"type": "cardPaid", "amount": 5}, {"type": "brandNew"})
    before = gateway.cli("replay", "--unknown", "--json")
    assert json.loads(before.stdout) == {"matched": 0, "done": 0}
    assert "2 events came by a name that no hook has; `gateway check` shows what to add" in before.stderr

    text = gateway.config_path.read_text()
    gateway.config_path.write_text(text.replace('["webioPay"]', '["webioPay", "cardPaid"]'))
    too_early = gateway.cli("replay", "--unknown")
    assert too_early.returncode == 1
    assert "does not know all of these names yet; restart it" in too_early.stderr
    gateway.stop()
    [found] = [
        one["message"]
        for one in json.loads(gateway.cli("check", "--json").stdout)["warnings"]
        if one["path"] == "hooks.payment.types"
    ]
    assert "`gateway replay --unknown`" in found
    gateway.start()

    assert json.loads(gateway.cli("replay", "--unknown", "--dry-run", "--json").stdout) == {"matched": 1, "done": 0}
    first = gateway.cli("replay", "--unknown")
    assert first.stdout == "1 of 1 delivered to ledger again\n"
    gateway.wait_for_line(f"ledger got {kept} payment True")
    rows = {row["id"]: (row["hook"], row["name"], row["state"]) for row in listed(gateway)}
    assert rows == {kept: ("payment", "cardPaid", "delivered"), other: ("unknown", "brandNew", "no taker")}
    assert [row["id"] for row in listed(gateway, "--hook", "payment")] == [kept]

    again = gateway.cli("replay", "--unknown")
    assert (again.returncode, again.stdout) == (0, "")
    assert again.stderr.splitlines()[-1] == "no event matches"
    assert json.loads(gateway.cli("replay", "--unknown", "--plugin", "ledger", "--json").stdout)["matched"] == 0
    assert gateway.text.count(f"ledger got {kept}") == 1

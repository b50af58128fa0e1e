"""Gateways as processes of their own on one database: one is stopped, one is killed, and events go on in order."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from running import RunningGateway, eventually, running
from schemas import Schema

CONVERSATIONS = 10
PLUGIN = """
    import os
    from gateway import Event, hookimpl

    class Plugin:
        @hookimpl
        def on_event(self, event: Event) -> None:
            fields = event.fields()
            line = f'[{fields["n"]}, {event.conversation_id}, {event.epoch}, {int(event.redelivered)}]\\n'
            fd = os.open(os.environ["CRM"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(fd, line.encode())
            os.close(fd)
"""


class Crm:
    """What the plugin of all gateways has written: numbers, conversations, epochs, and whether an event is a repeat."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sent = 0

    def send(self, gateway: RunningGateway, count: int) -> None:
        """Send events, one after the other; each is answered 200."""
        with gateway.client() as client:
            for _ in range(count):
                self._sent += 1
                body = {"type": "payment", "conversationId": str(self._sent % CONVERSATIONS), "n": self._sent}
                answer = client.post(json.dumps(body).encode(), "payment")
                assert answer.status == 200, answer

    def calls(self) -> list[list[Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def has_all(self) -> bool:
        return {call[0] for call in self.calls()} == set(range(1, self._sent + 1))

    def check(self) -> int:
        """Order holds within each conversation, no epoch goes back and repeats are marked; returns how many there
        were."""
        firsts: dict[str, list[int]] = defaultdict(list)
        epochs: dict[str, int] = defaultdict(int)
        repeats = 0
        for n, conversation, epoch, redelivered in self.calls():
            assert epoch >= epochs[conversation]
            epochs[conversation] = epoch
            if n in firsts[conversation]:
                assert redelivered
                repeats += 1
            else:
                firsts[conversation].append(n)
        assert all(one < other for numbers in firsts.values() for one, other in pairwise(numbers))
        return repeats


def test_events_go_on_in_order_when_gateways_stop_and_die(schema: Schema, tmp_path: Path) -> None:
    """One is stopped and started again, then the other is killed."""
    crm = Crm(tmp_path / "calls")

    def text(name: str) -> str:
        journal = f'[journal]\nurl = "{schema.url}"\n[node]\nname = "{name}"\n'
        return f'{journal}[plugins.crm]\nfrom = "start"\nshards = 4\n'

    with (
        running(tmp_path / "one", text("one"), plugins={"crm": PLUGIN}, environment={"CRM": str(crm.path)}) as one,
        running(tmp_path / "two", text("two"), plugins={"crm": PLUGIN}, environment={"CRM": str(crm.path)}) as two,
    ):
        crm.send(one, 40)
        crm.send(two, 40)
        eventually(crm.has_all)
        eventually(lambda: owners(schema) == {"one": 2, "two": 2})
        crm.send(one, 40)
        assert one.stop() == 0
        crm.send(two, 40)
        eventually(crm.has_all)
        eventually(lambda: owners(schema) == {"two": 4})
        assert crm.check() == 0
        one.start()
        eventually(lambda: owners(schema) == {"one": 2, "two": 2})
        crm.send(two, 40)
        two.kill()
        crm.send(one, 40)
        eventually(crm.has_all, within=60)
        eventually(lambda: owners(schema) == {"one": 4})
        crm.check()


def owners(schema: Schema) -> dict[str, int]:
    """How many shards each gateway owns."""
    live = "owner IS NOT NULL AND lease_until > clock_timestamp()"
    return dict(schema.execute(f"SELECT owner_name, count(*) FROM cursors WHERE {live} GROUP BY 1"))

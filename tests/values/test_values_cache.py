"""One look-up for many: identical requests in flight, and values remembered for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asking import Answering, Clock, Knows, ask, asking, problem_of, values_of
from kit import Signal

from gateway import CustomValueRequest
from gateway.values.answer import CACHED, FieldDetail, Found
from gateway.values.question import Question
from gateway.values.service import Cache


class Gate:
    """Providers' answers that wait until they are let through."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.arrived, self.open = Signal(), Signal()
        self.values = values

    async def __call__(self, request: CustomValueRequest) -> Mapping[str, Any]:
        self.arrived.set()
        await self.open.wait()
        return self.values


def numbered() -> Answering:
    """Every look-up gives another value."""
    count = 0

    async def answer(request: CustomValueRequest) -> Mapping[str, Any]:
        nonlocal count
        count += 1
        return dict.fromkeys(request.fields, str(count))

    return answer


async def test_identical_requests_in_flight_share_one_look_up(tmp_path: Path) -> None:
    """Twenty at once ask the provider once; another customer, address or organisation is another question."""
    gate = Gate({"balance": "1"})
    crm = Knows(answer=gate)
    async with asking(tmp_path, crm=crm) as values:
        same = [asyncio.ensure_future(ask(values, "balance")) for _ in range(20)]
        others = [
            asyncio.ensure_future(ask(values, "balance", uid="654321")),
            asyncio.ensure_future(ask(values, "balance", address="44777")),
            asyncio.ensure_future(ask(values, "balance", organisation="other")),
        ]
        await gate.arrived.wait()
        gate.open.set()
        for answer in await asyncio.gather(*same, *others):
            assert values_of(answer) == {"balance": "1"}
        assert len(crm.requests) == 4


async def test_a_shared_look_up_survives_the_one_who_began_it(tmp_path: Path) -> None:
    """When the first caller goes away, the next one asks; a follower that goes away changes nothing."""
    gate = Gate({"balance": "1"})
    crm = Knows(answer=gate)
    async with asking(tmp_path, crm=crm) as values:
        first = asyncio.ensure_future(ask(values, "balance"))
        await gate.arrived.wait()
        follower, leaver = (asyncio.ensure_future(ask(values, "balance")) for _ in range(2))
        await asyncio.sleep(0)
        leaver.cancel()
        first.cancel()
        await asyncio.wait((first, leaver))
        gate.open.set()
        assert values_of(await follower) == {"balance": "1"}
        assert len(crm.requests) == 2


async def test_nothing_is_remembered_unless_the_config_says_so(tmp_path: Path) -> None:
    """Each request after the first has ended asks again."""
    async with asking(tmp_path, crm=Knows(answer=numbered())) as values:
        assert [values_of(await ask(values, "a"))["a"] for _ in range(3)] == ["1", "2", "3"]


async def test_a_field_is_remembered_for_as_long_as_its_cache_says(tmp_path: Path) -> None:
    """`[values] cache` for all fields, a field's own over it; what is missing is asked for by itself."""
    text = '[values]\ncache = "10s"\n[values.fields.b]\ncache = "0s"\n[values.fields.c]\ncache = "1h"\n'
    clock, crm = Clock(), Knows(answer=numbered())
    async with asking(tmp_path, text, clock=clock, crm=crm) as values:
        assert values_of(await ask(values, "a", "b", "c")) == {"a": "1", "b": "1", "c": "1"}
        again = await ask(values, "a", "b", "c")
        assert values_of(again) == {"a": "1", "b": "2", "c": "1"}
        assert [(detail.outcome, detail.provider) for detail in again.details.values()] == [
            ("cached", "crm"),
            ("value", "crm"),
            ("cached", "crm"),
        ]
        assert crm.requests[-1].fields == ("b",)
        clock.ahead += 11
        assert values_of(await ask(values, "a", "c")) == {"a": "3", "c": "1"}


async def test_what_is_remembered_belongs_to_one_customer(tmp_path: Path) -> None:
    """Another organisation, customer or address, also none, is another question."""
    async with asking(tmp_path, '[values]\ncache = "1h"\n', crm=Knows(answer=numbered())) as values:
        who: list[dict[str, Any]] = [
            {},
            {"uid": "654321"},
            {"uid": None},
            {"uid": None, "address": "123456"},
            {"address": "44777"},
            {"organisation": "other"},
        ]
        first = [values_of(await ask(values, "a", **one))["a"] for one in who]
        assert first == ["1", "2", "3", "4", "5", "6"]
        assert [values_of(await ask(values, "a", **one))["a"] for one in who] == first


async def test_failures_are_not_remembered_nor_what_came_with_them(tmp_path: Path) -> None:
    """An answer that is not whole says nothing sure; the next request asks for everything again."""
    crm = Knows({"a": "1"})
    async with asking(tmp_path, '[values]\ncache = "1h"\n', crm=crm) as values:
        assert problem_of(await ask(values, "a", "b")) == (404, ["b"])
        crm.values = {"a": "2", "b": "2"}
        assert values_of(await ask(values, "a", "b")) == {"a": "2", "b": "2"}
        crm.values = OSError("down")
        assert values_of(await ask(values, "a", "b")) == {"a": "2", "b": "2"}
        assert problem_of(await ask(values, "a", "b", uid="654321")) == (502, ["a", "b"])


async def test_a_null_is_remembered_and_a_default_is_not(tmp_path: Path) -> None:
    """A default stands for not knowing, which may change at any time."""
    text = '[values]\ncache = "1h"\nnullable = ["n"]\n[values.fields.d]\ndefault = "none"\n'
    crm = Knows({"n": None})
    async with asking(tmp_path, text, crm=crm) as values:
        assert values_of(await ask(values, "n", "d")) == {"n": None, "d": "none"}
        crm.values = {"n": "1", "d": "1"}
        assert values_of(await ask(values, "n", "d")) == {"n": None, "d": "1"}


def test_the_cache_is_bounded() -> None:
    """When it is full the oldest entry goes."""
    now = 0.0
    cache = Cache(lambda: now, max_entries=3)
    x, y = (Found(FieldDetail(CACHED, "crm"), text) for text in "xy")
    keys = [Question("acme", str(number), None, ("a",)) for number in range(5)]
    for key in keys:
        cache.put(key, x, 10)
    assert [cache.get(key) for key in keys] == [None, None, x, x, x]
    cache.put(keys[2], y, 10)
    assert [cache.get(key) for key in keys[2:]] == [y, x, x]
    now = 10.0
    assert [cache.get(key) for key in keys] == [None] * 5

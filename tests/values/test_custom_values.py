"""Custom values from question to answer: which providers are asked, which one decides, and what a failure says."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections import UserDict
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from asking import Blocks, Clock, Grace, Knows, ask, asking, problem_of, query, values_of
from kit import Signal

from gateway import CustomValueRequest, Reject, SeveralCustomers
from gateway.values.answer import Answer
from gateway.values.service import CustomValues

DEADLINE = '[values]\ndeadline = "150ms"\n'


async def never(request: CustomValueRequest) -> Mapping[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def timed(values: CustomValues, *fields: str) -> tuple[Answer, float]:
    """The answer, and its seconds less what it may take over the deadline."""
    with Grace() as grace:
        started = time.perf_counter()
        answer = await ask(values, *fields)
        return answer, time.perf_counter() - started - grace.seconds


async def test_every_field_asked_for_is_answered_as_text(tmp_path: Path) -> None:
    """The reply is a JSON object from each field's name to its text, in the order of the params."""
    known = {"balance": Decimal("120.50"), "ID": 4711, "unasked": "secret"}
    async with asking(tmp_path, crm=Knows(known)) as values:
        answer = await ask(values, "ID", "balance")
        assert answer.body == b'{"ID":"4711","balance":"120.50"}'
        assert values_of(answer) == {"ID": "4711", "balance": "120.50"}


async def test_a_provider_is_told_what_it_needs(tmp_path: Path) -> None:
    """Fields, customer, address, organisation and the time left; none of a customer UID is None."""
    crm = Knows({"balance": "1"})
    async with asking(tmp_path, DEADLINE, crm=crm) as values:
        await ask(values, "balance", "balance", uid=None, address="+44777", organisation="acme")
        [request] = crm.requests
        assert request.fields == ("balance",)
        assert (request.customer_uid, request.outbound_channel_address) == (None, "+44777")
        assert request.organisation == "acme"
        assert 0 <= request.time_left <= 0.15


async def test_a_request_for_nothing_is_a_connection_test(tmp_path: Path) -> None:
    """No param: 200 with an empty object, and no provider is asked."""
    crm = Knows({"balance": "1"})
    async with asking(tmp_path, crm=crm) as values:
        assert values_of(await ask(values)) == {}
        assert crm.requests == []


async def test_a_malformed_query_is_the_callers_fault(tmp_path: Path) -> None:
    """400, a sentence, and nothing of what was sent."""
    async with asking(tmp_path, crm=Knows({"a": "1"})) as values:
        answer = await values.answer("acme", b"param1=a&customerUID=77001&customerUID=77002")
        assert json.loads(answer.body) == {
            "type": "about:blank",
            "title": "Bad Request",
            "status": 400,
            "detail": "more than one customerUID",
            "fields": [],
        }


async def test_one_field_without_an_answer_fails_the_request(tmp_path: Path) -> None:
    """404 that names that field only; the value of the other one is not given."""
    async with asking(tmp_path, crm=Knows({"balance": "120.50"})) as values:
        answer = await ask(values, "balance", "iban")
        assert problem_of(answer) == (404, ["iban"])
        assert b"120.50" not in answer.body


async def test_the_first_provider_in_config_order_that_knows_a_field_wins(tmp_path: Path) -> None:
    """However much sooner a later one answers."""
    answered = Signal()

    async def slow(request: CustomValueRequest) -> Mapping[str, Any]:
        await answered.wait()
        return {"balance": "first"}

    async def quick(request: CustomValueRequest) -> Mapping[str, Any]:
        answered.set()
        return {"balance": "second", "name": "second"}

    async with asking(tmp_path, first=Knows(answer=slow), second=Knows(answer=quick)) as values:
        assert values_of(await ask(values, "balance", "name")) == {"balance": "first", "name": "second"}


async def test_an_answer_does_not_wait_for_a_provider_whose_value_would_not_count(tmp_path: Path) -> None:
    """Once every field is decided the answer goes out; the provider that is still busy is cancelled."""
    begun, cancelled = Signal(), Signal()

    async def prompt(request: CustomValueRequest) -> Mapping[str, Any]:
        await begun.wait()
        return {"balance": "1"}

    async def busy(request: CustomValueRequest) -> Mapping[str, Any]:
        begun.set()
        try:
            return await never(request)
        finally:
            cancelled.set()

    async with asking(tmp_path, first=Knows(answer=prompt), second=Knows(answer=busy)) as values:
        assert values_of(await ask(values, "balance")) == {"balance": "1"}
        await asyncio.wait_for(cancelled.wait(), 10)
        assert [one.failures for one in values.health()] == [0, 0]


async def test_a_provider_that_declares_its_fields_is_asked_for_those_only(tmp_path: Path) -> None:
    """It is not asked when the request has none of them. A field that no provider can know costs no look-up."""
    crm, bank = Knows({"name": "Mary"}, {"name"}), Knows({"balance": "1"}, {"balance", "iban"})
    async with asking(tmp_path, crm=crm, bank=bank) as values:
        assert values_of(await ask(values, "balance", "name")) == {"balance": "1", "name": "Mary"}
        assert [request.fields for request in crm.requests + bank.requests] == [("name",), ("balance",)]
        assert problem_of(await ask(values, "nonsense")) == (404, ["nonsense"])
        assert len(crm.requests + bank.requests) == 2


@pytest.mark.parametrize(
    ("failure", "status", "detail"),
    [
        (SeveralCustomers(), 409, "several customers match"),
        (RuntimeError("boom 0871234567"), 502, "a provider failed"),
        (Reject("not a number"), 502, "a provider failed"),
        (SystemExit(3), 502, "a provider failed"),
        (KeyboardInterrupt(), 502, "a provider failed"),
        (asyncio.CancelledError(), 502, "a provider failed"),
        (TimeoutError("the statement took too long"), 504, "a provider did not answer in time"),
    ],
)
async def test_a_providers_failure_has_its_status(
    tmp_path: Path, failure: BaseException, status: int, detail: str
) -> None:
    """Whatever a provider raises, the answer says what kind of failure it was, and none of its words."""
    async with asking(tmp_path, crm=Knows(failure)) as values:
        answer = await ask(values, "balance")
        assert problem_of(answer) == (status, ["balance"])
        assert json.loads(answer.body)["detail"] == detail
        assert b"0871234567" not in answer.body


@pytest.mark.parametrize(
    "result",
    [None, [], "balance", 7, {"balance": float("nan")}, {"balance": b"1"}, {"balance": ["1"]}, {"balance": "x" * 5000}],
)
async def test_nonsense_from_a_provider_is_its_failure(tmp_path: Path, result: Any) -> None:
    """A result that is not a mapping, or has something else than values, is never sent as text."""

    async def nonsense(request: CustomValueRequest) -> Any:
        return result

    async with asking(tmp_path, crm=Knows(answer=nonsense)) as values:
        assert problem_of(await ask(values, "balance")) == (502, ["balance"])


async def test_any_mapping_will_do_unless_it_cannot_be_read(tmp_path: Path) -> None:
    """A mapping of one's own is read for the asked fields only; one that raises is a failure."""

    class Broken(UserDict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            raise OSError("gone")

    async with asking(tmp_path, crm=Knows(UserDict({"balance": 1, "other": object()}))) as values:
        assert values_of(await ask(values, "balance")) == {"balance": "1"}
    async with asking(tmp_path, crm=Knows(Broken({"balance": 1}))) as values:
        assert problem_of(await ask(values, "balance")) == (502, ["balance"])


async def test_null_is_an_answer_for_nullable_fields_only(tmp_path: Path) -> None:
    """For all others a null is not found: Webio may show it to the customer as the word "null"."""
    text = '[values]\nnullable = ["due"]\n[values.fields.end]\nnullable = true\n'
    known = {"due": None, "end": None, "balance": None}
    async with asking(tmp_path, text, crm=Knows(known)) as values:
        assert values_of(await ask(values, "due", "end")) == {"due": None, "end": None}
        assert problem_of(await ask(values, "due", "balance")) == (404, ["balance"])


async def test_a_null_that_may_not_be_leaves_the_field_to_the_next_provider(tmp_path: Path) -> None:
    """A provider without a value does not know the field."""
    async with asking(tmp_path, first=Knows({"name": None}), second=Knows({"name": "Mary"})) as values:
        assert values_of(await ask(values, "name")) == {"name": "Mary"}


async def test_a_failed_provider_is_not_replaced_by_a_later_one(tmp_path: Path) -> None:
    """Its value would have won, and may be another one: wrong is worse than failed. `fallback` allows it per field."""
    text = "[values.fields.name]\nfallback = true\n"
    second = Knows({"balance": "2", "name": "Mary"})
    async with asking(tmp_path, text, first=Knows(OSError("down")), second=second) as values:
        assert problem_of(await ask(values, "balance", "name")) == (502, ["balance"])
        assert values_of(await ask(values, "name")) == {"name": "Mary"}
        second.values = {}
        assert problem_of(await ask(values, "name")) == (502, ["name"])


async def test_several_customers_are_never_fallen_back_from(tmp_path: Path) -> None:
    """The customer stays unknown, whatever another provider answers."""
    text = '[values.fields.name]\nfallback = true\ndefault = "customer"\ndefault_on_error = true\n'
    second = Knows({"name": "Mary"})
    async with asking(tmp_path, text, first=Knows(SeveralCustomers()), second=second) as values:
        assert problem_of(await ask(values, "name")) == (409, ["name"])


async def test_the_gravest_failure_gives_the_status(tmp_path: Path) -> None:
    """409 over 502 over 504 over 404; the fields name all that have no answer."""
    providers: dict[str, Any] = {
        "several": Knows(SeveralCustomers(), {"a"}),
        "failed": Knows(OSError("down"), {"b"}),
        "late": Knows(TimeoutError(), {"c"}),
        "empty": Knows({}, {"d"}),
        "good": Knows({"e": "1"}, {"e"}),
    }
    async with asking(tmp_path, **providers) as values:
        assert problem_of(await ask(values, "d", "e", "c", "b", "a")) == (409, ["d", "c", "b", "a"])
        assert problem_of(await ask(values, "d", "e", "c", "b")) == (502, ["d", "c", "b"])
        assert problem_of(await ask(values, "d", "e", "c")) == (504, ["d", "c"])
        assert problem_of(await ask(values, "d", "e")) == (404, ["d"])


async def test_the_deadline_bounds_the_answer(tmp_path: Path) -> None:
    """A provider that never answers costs the deadline and no more, also one that ignores its cancellation."""

    async def stubborn(request: CustomValueRequest) -> Mapping[str, Any]:
        while True:
            try:
                await asyncio.sleep(0.4)
                return {}
            except asyncio.CancelledError:
                continue

    for answer in (never, stubborn):
        async with asking(tmp_path, DEADLINE, crm=Knows(answer=answer)) as values:
            reply, seconds = await timed(values, "balance")
            assert problem_of(reply) == (504, ["balance"])
            assert seconds < 0.15
            assert values.health()[0].late == 1


async def test_the_deadline_bounds_a_provider_that_blocks_its_thread(tmp_path: Path) -> None:
    """The thread is left behind, the answer is not."""
    release = threading.Event()

    def block(request: CustomValueRequest) -> Any:
        release.wait(10)
        return {"balance": "late"}

    async with asking(tmp_path, DEADLINE, crm=Blocks(block)) as values:
        try:
            reply, seconds = await timed(values, "balance")
        finally:
            release.set()
        assert problem_of(reply) == (504, ["balance"])
        assert seconds < 0.15


async def test_a_provider_may_have_a_timeout_of_its_own(tmp_path: Path) -> None:
    """A fallback for its fields then still has time to answer."""
    text = '[plugins.slow]\nvalues_timeout = "40ms"\n[values.fields.name]\nfallback = true\n'
    async with asking(tmp_path, text, slow=Knows(answer=never), good=Knows({"name": "Mary"})) as values:
        reply, seconds = await timed(values, "name")
        assert values_of(reply) == {"name": "Mary"}
        assert seconds < 0.04


@pytest.mark.parametrize(
    ("keys", "seconds", "warned"),
    [
        ("", 3, False),
        ('values_timeout = "2s"', 2, False),
        ('timeout = "2s"', 2, True),
        ('timeout = "1s"\nvalues_timeout = "2s"', 2, False),
        ('values_timeout = "10s"', 3, False),
    ],
)
async def test_values_timeout_bounds_a_provider(tmp_path: Path, keys: str, seconds: float, warned: bool) -> None:
    """Within the deadline. `timeout`, which bounds delivery, still does where it stands alone, with a warning."""
    crm = Knows({"balance": "1"})
    async with asking(tmp_path, f"[plugins.crm]\n{keys}\n", crm=crm) as values:
        before = time.monotonic()
        await ask(values, "balance")
        assert before + seconds <= crm.requests[-1].expires <= time.monotonic() + seconds
        deprecated = "also bounds custom values here, which is deprecated; write values_timeout"
        expected = [("plugins.crm.timeout", deprecated)] if warned else []
        assert [(problem.path, problem.message) for problem in values.warnings()] == expected


async def test_plain_providers_run_in_threads_side_by_side(tmp_path: Path) -> None:
    """Two blocking providers that wait for each other both answer."""
    barrier = threading.Barrier(2, timeout=5)

    def meet(request: CustomValueRequest) -> Any:
        barrier.wait()
        return {field: field for field in request.fields}

    async with asking(tmp_path, one=Blocks(meet), two=Blocks(meet)) as values:
        assert values_of(await ask(values, "a")) == {"a": "a"}


async def test_one_provider_may_be_asked_by_many_at_once(tmp_path: Path) -> None:
    """Two hundred requests of a blocking provider, each for its own customer, are all answered with their own."""

    def look_up(request: CustomValueRequest) -> Any:
        return {"balance": f"of {request.customer_uid}"}

    async with asking(tmp_path, crm=Blocks(look_up)) as values:
        uids = [str(number) for number in range(200)]
        answers = await asyncio.gather(*(ask(values, "balance", uid=uid) for uid in uids))
        assert [values_of(answer)["balance"] for answer in answers] == [f"of {uid}" for uid in uids]


async def test_what_a_plugin_raises_is_logged_without_its_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line names the provider and the place, without the message; further failures soon after have no line."""
    async with asking(tmp_path, crm=Knows(ValueError("no row for 447717472695"))) as values:
        for _ in range(4):
            await ask(values, "balance")
        [record] = caplog.records
        assert re.fullmatch(r"provider crm failed: ValueError at asking\.py:\d+; breaker closed", record.getMessage())


async def test_an_answer_never_raises(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A fault inside the gateway is a 502 for Webio, a line for the operator, and nothing of it leaks."""

    class Fragile(Clock):
        def __call__(self) -> float:
            if self.ahead:
                raise ZeroDivisionError("inside")
            return super().__call__()

    clock = Fragile()
    async with asking(tmp_path, clock=clock, crm=Knows({"a": "1"})) as values:
        clock.ahead = 1
        answer = await ask(values, "a")
        assert problem_of(answer) == (502, ["a"])
        assert b"inside" not in answer.body
        assert "failed inside the gateway: ZeroDivisionError: inside" in caplog.text


async def test_details_explain_each_field_without_its_value(tmp_path: Path) -> None:
    """Outcome, provider and milliseconds by name as asked."""
    text = '[values.fields.support]\ndefault = "0800"\n'
    async with asking(tmp_path, text, crm=Knows({"balance": "120.50"}), erp=Knows({})) as values:
        answer = await ask(values, "balance", "support")
        told = {name: (detail.outcome, detail.provider) for name, detail in answer.details.items()}
        assert told == {"balance": ("value", "crm"), "support": ("default", "erp")}
        assert all(0 <= detail.ms < 1000 for detail in answer.details.values())
        assert "120.50" not in repr(answer.details)


async def test_the_query_is_passed_on_as_bytes_of_any_kind(tmp_path: Path) -> None:
    """A field named like SQL, a path or a log format reaches the provider as it is, and nothing else."""
    names = ("a'; DROP TABLE x; --", "../../etc/passwd", "%s%n{0}", "größe", "null")
    crm = Knows(dict.fromkeys(names, "x"))
    async with asking(tmp_path, crm=crm) as values:
        answer = await values.answer("acme", query(*names))
        assert list(values_of(answer)) == list(names)
        assert crm.requests[0].fields == names

"""The circuit breaker: requests do not wait for a provider that keeps failing; it is tried again by itself."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from asking import Clock, Knows, ask, asking, problem_of, values_of
from kit import Signal

from gateway import CustomValueRequest, Reject, SeveralCustomers
from gateway.values.breaker import FIRST_PAUSE, LONGEST_PAUSE, THRESHOLD


async def test_a_provider_that_failed_five_times_in_a_row_is_skipped(tmp_path: Path) -> None:
    """The sixth request does not reach it, and fails at once with the status of a failed provider."""
    crm = Knows(OSError("down"))
    async with asking(tmp_path, clock=Clock(), crm=crm) as values:
        for _ in range(THRESHOLD):
            assert problem_of(await ask(values, "balance")) == (502, ["balance"])
        answer = await ask(values, "balance")
        assert problem_of(answer) == (502, ["balance"])
        assert answer.details["balance"].outcome == "skipped"
        assert len(crm.requests) == THRESHOLD
        [health] = values.health()
        assert (health.name, health.breaker, health.failures, health.skipped) == ("crm", "open", 5, 1)


async def test_a_line_says_when_it_opens_and_when_it_closes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the last failure, and how long it was open."""
    clock, crm = Clock(), Knows(OSError("down"))
    async with asking(tmp_path, clock=clock, crm=crm) as values:
        for _ in range(THRESHOLD + 1):
            await ask(values, "balance")
        clock.ahead += 7
        crm.values = {"balance": "1"}
        await ask(values, "balance")
    opened, closed = (record.getMessage() for record in caplog.records if ": breaker" in record.getMessage())
    assert re.match(
        r"provider crm: breaker opened after 5 failures in a row, all about one customer, the last: OSError at"
        r" asking\.py:\d+; requests about this customer, and no others, fail without it being asked, and it is tried"
        r" again every 1 s to 30 s$",
        opened,
    )
    assert closed == "provider crm: breaker closed after 7 s"


async def test_the_line_says_for_whom_it_is_open(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """For all where several customers' requests failed, be it later; the customers are not named."""
    caplog.set_level(logging.ERROR)
    crm = Knows(OSError("down"))
    async with asking(tmp_path, clock=Clock(), crm=crm) as values:
        for _ in range(THRESHOLD):
            await ask(values, "balance", uid="4711")
        await ask(values, "balance", uid="4712")
    narrow, wide = caplog.messages
    assert ", all about one customer, " in narrow
    assert re.match(
        r"provider crm: breaker open for all customers after 6 failures in a row, the last: OSError at asking\.py:\d+;"
        r" all requests for its fields fail without it being asked, and it is tried again every 1 s to 30 s$",
        wide,
    )
    assert "471" not in narrow + wide


async def test_a_dead_provider_does_not_cost_the_deadline_again_and_again(tmp_path: Path) -> None:
    """Timeouts open it like exceptions do."""

    async def never(request: CustomValueRequest) -> Mapping[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    text = '[values]\ndeadline = "20ms"\n'
    async with asking(tmp_path, text, clock=Clock(), crm=Knows(answer=never)) as values:
        for _ in range(THRESHOLD):
            assert problem_of(await ask(values, "balance")) == (504, ["balance"])
        assert problem_of(await ask(values, "balance")) == (502, ["balance"])
        assert values.health()[0].late == THRESHOLD


async def test_after_the_pause_one_request_tries_and_a_success_closes_it(tmp_path: Path) -> None:
    """While that one is out the others are still skipped; when it succeeds all go through again."""
    clock, crm = Clock(), Knows(OSError("down"))
    async with asking(tmp_path, clock=clock, crm=crm) as values:
        for number in range(THRESHOLD):
            await ask(values, "balance", uid=str(number))
        arrived, go = Signal(), Signal()

        async def held(request: CustomValueRequest) -> Mapping[str, Any]:
            arrived.set()
            await go.wait()
            return {"balance": "1"}

        crm.answer = held
        clock.ahead += FIRST_PAUSE
        assert values.health()[0].breaker == "half-open"
        probe = asyncio.ensure_future(ask(values, "balance"))
        await arrived.wait()
        assert problem_of(await ask(values, "balance", uid="another")) == (502, ["balance"])
        go.set()
        assert values_of(await probe) == {"balance": "1"}
        assert values_of(await ask(values, "balance", uid="another")) == {"balance": "1"}
        assert (values.health()[0].breaker, values.health()[0].failures) == ("closed", 0)


async def test_the_odd_id_of_one_customer_opens_it_for_that_customer_only(tmp_path: Path) -> None:
    """Five failed requests about one customer are skipped from then on; the balance of others is still answered."""

    async def answer(request: CustomValueRequest) -> Mapping[str, Any]:
        if request.customer_uid == "odd":
            raise ValueError("not a number")
        return {"balance": "1"}

    async with asking(tmp_path, clock=Clock(), crm=Knows(answer=answer)) as values:
        for _ in range(THRESHOLD):
            await ask(values, "balance", uid="odd")
        assert (await ask(values, "balance", uid="odd")).details["balance"].outcome == "skipped"
        assert values_of(await ask(values, "balance", uid="7")) == {"balance": "1"}


async def test_failures_about_a_second_customer_open_it_for_all(tmp_path: Path) -> None:
    """A database that is down fails for everyone: once two customers have seen that, nobody waits for it."""
    async with asking(tmp_path, clock=Clock(), crm=Knows(OSError("down"))) as values:
        for _ in range(THRESHOLD):
            await ask(values, "balance", uid="1")
        assert (await ask(values, "balance", uid="2")).details["balance"].outcome == "failed"
        assert (await ask(values, "balance", uid="3")).details["balance"].outcome == "skipped"


async def test_each_failed_try_doubles_the_pause_up_to_a_bound(tmp_path: Path) -> None:
    """A database that stays down is asked ever more rarely, but at least every half minute."""
    clock, crm = Clock(), Knows(OSError("down"))
    async with asking(tmp_path, clock=clock, crm=crm) as values:
        for _ in range(THRESHOLD):
            await ask(values, "balance")
        pauses = []
        for _ in range(7):
            asked, waited = len(crm.requests), 0.0
            while len(crm.requests) == asked:
                clock.ahead += 0.5
                waited += 0.5
                await ask(values, "balance")
            pauses.append(waited)
        assert pauses == [1, 2, 4, 8, 16, LONGEST_PAUSE, LONGEST_PAUSE]


async def test_an_answer_in_between_starts_the_count_again(tmp_path: Path) -> None:
    """Only failures in a row count."""
    crm = Knows()
    async with asking(tmp_path, clock=Clock(), crm=crm) as values:
        for _ in range(3):
            crm.values = OSError("down")
            for _ in range(THRESHOLD - 1):
                await ask(values, "balance")
            crm.values = {}
            assert problem_of(await ask(values, "balance")) == (404, ["balance"])
        assert values.health()[0].breaker == "closed"


async def test_a_field_that_fails_alone_fails_no_other(tmp_path: Path) -> None:
    """The answer names it and not its neighbours, and a provider that gives something is not passed over."""
    crm = Knows({"balance": "1", "due": TimeoutError("slow"), "name": LookupError("no such column")})
    text = '[values.fields.name]\ndefault = "customer"\ndefault_on_error = true\n'
    async with asking(tmp_path, text, clock=Clock(), crm=crm) as values:
        for _ in range(2 * THRESHOLD):
            assert problem_of(await ask(values, "balance", "due", "name")) == (504, ["due"])
        assert values_of(await ask(values, "balance", "name")) == {"balance": "1", "name": "customer"}
        crm.values = {"due": TimeoutError("slow")}
        for _ in range(2 * THRESHOLD):
            await ask(values, "due")
        assert problem_of(await ask(values, "balance")) == (502, ["balance"])


async def test_a_request_that_is_at_fault_itself_does_not_count(tmp_path: Path) -> None:
    """A request with a wrong UID, or for an ambiguous customer, does not open the breaker for others."""
    crm = Knows()
    async with asking(tmp_path, clock=Clock(), crm=crm) as values:
        for failure in (Reject("no number"), SeveralCustomers(), {"balance": float("nan")}):
            crm.values = failure
            for _ in range(2 * THRESHOLD):
                await ask(values, "balance")
        crm.values = {"balance": "1"}
        assert values_of(await ask(values, "balance")) == {"balance": "1"}


async def test_a_probe_that_was_cancelled_lets_the_next_request_probe(tmp_path: Path) -> None:
    """The probe was cancelled, because another provider had decided the field already; the next request may try."""
    text = "[values.fields.balance]\nprovider = 'second'\n"
    clock, first, second = Clock(), Knows({"name": "Mary"}), Knows(OSError("down"))
    async with asking(tmp_path, text, clock=clock, first=first, second=second) as values:
        for _ in range(THRESHOLD):
            await ask(values, "balance")

        async def never(request: CustomValueRequest) -> Mapping[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

        second.answer = never
        clock.ahead += FIRST_PAUSE
        assert values_of(await ask(values, "name")) == {"name": "Mary"}
        await asyncio.sleep(0)
        assert values.health()[1].breaker == "half-open"
        second.answer, second.values = None, {"balance": "1"}
        assert values_of(await ask(values, "balance")) == {"balance": "1"}

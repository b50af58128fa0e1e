"""The tier *safe*, for plugins that answer custom values: wrong is worse than failed."""

from __future__ import annotations

from typing import Any, Final

from gateway.testing.checking.bench import NAME, Bench
from gateway.testing.checking.canaries import CANARIES, listening
from gateway.testing.checking.report import CheckFailed, NotApplicable

_NOBODY: Final = "a-customer-that-nobody-knows"
_NO_FIELD: Final = "a field that nobody has"


def customer_gets_the_right_values(bench: Bench) -> None:
    """The plugin answers each field of a customer that the target knows, alone and together."""
    bench.run(_right(bench, bench.need_values()))


async def _right(bench: Bench, values: Any) -> None:
    async with bench.gateway() as gateway:
        for fields in (tuple(values), *((field,) for field in values)):
            found = await gateway.webio.ask(*fields, customer_uid=bench.case.customer_uid)
            expected = {field: values[field] for field in fields}
            if found != (200, expected):
                raise CheckFailed(
                    f"the fields {', '.join(fields)} were answered {found.status}, not as given in the case"
                )


def unknown_is_not_answered(bench: Bench) -> None:
    """A customer, or a field, that the target does not know has no value: the bot gets 404, not another's value."""
    bench.run(_unknown(bench, bench.need_values()))


async def _unknown(bench: Bench, values: Any) -> None:
    async with bench.gateway() as gateway:
        questions = [(_NO_FIELD, bench.case.customer_uid)]
        questions += [] if bench.case.for_everyone else [(next(iter(values)), _NOBODY)]
        for field, customer in questions:
            found = await gateway.webio.ask(field, customer_uid=customer)
            if found.status != 404:
                raise CheckFailed(
                    f"the field {field!r} of the customer {customer!r} was answered {found.status}, not 404"
                )


def failing_target_is_a_failure(bench: Bench) -> None:
    """While the target fails, the bot gets a failure (502 or 504): no value, and not the word that nobody knows."""
    bench.run(_failing(bench, bench.need_values(), bench.need_failing()))


async def _failing(bench: Bench, values: Any, fails: Any) -> None:
    async with bench.gateway() as gateway:
        with fails():
            found = await gateway.webio.ask(*values, customer_uid=bench.case.customer_uid)
        if found.status not in (502, 504):
            raise CheckFailed(
                f"while the target failed, the bot was answered {found.status}; raise what the target raised"
            )


def nothing_personal_of_questions_is_said(bench: Bench) -> None:
    """No secret, no value and nothing of a question is in what the plugin raises or logs."""
    values = bench.need_values()
    with listening() as heard:
        bench.run(_asks(bench, values, heard))
    texts = [text for text in values.values() if len(text) >= 6] if not bench.case.for_everyone else []
    if leak := heard.leak((CANARIES["customerUID"], CANARIES["outboundChannelAddress"], *texts, *bench.case.secrets)):
        raise CheckFailed(
            f"{leak}; say what went wrong without a value, and `raise ... from None` where a driver says it"
        )


async def _asks(bench: Bench, values: Any, heard: Any) -> None:
    async with bench.gateway(prepare=heard.prepare) as gateway:
        who = {"customer_uid": CANARIES["customerUID"], "address": CANARIES["outboundChannelAddress"]}
        await gateway.webio.ask(*values, customer_uid=bench.case.customer_uid)
        await gateway.webio.ask(*values, **who)
        if bench.case.fails is not None:
            with bench.case.fails():
                await gateway.webio.ask(*values, **who)
        heard.said.append(f"the health of the plugin: {gateway.health(NAME)['error']}")


def is_of_use(bench: Bench) -> None:
    """The plugin takes events or notices, or answers custom values."""
    if hasattr(bench.kind, "custom_values") or hasattr(bench.kind, "notice"):
        return
    try:
        bench.hook()
    except NotApplicable:
        raise CheckFailed("the plugin has no hook for events, notices or custom values") from None


CHECKS: Final = (
    is_of_use,
    customer_gets_the_right_values,
    unknown_is_not_answered,
    failing_target_is_a_failure,
    nothing_personal_of_questions_is_said,
)

"""`[values.fields.NAME]`: the provider that owns a field, its names, and what its value must look like."""

from __future__ import annotations

import asyncio
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from asking import Clock, Knows, ask, asking, problem_of, scripted, values_of
from running import read_config

from gateway import SeveralCustomers
from gateway.config.convert import ConfigError
from gateway.journal.search import ValueRecord
from gateway.values.provider import DECLARE_EVERY
from gateway.values.service import CustomValues


async def test_a_field_may_belong_to_one_provider(tmp_path: Path) -> None:
    """Only its owner is asked, whatever the others would say."""
    text = '[values.fields.balance]\nprovider = "bank"\n'
    crm, bank = Knows({"balance": "wrong", "name": "Mary"}), Knows({"balance": "1"})
    async with asking(tmp_path, text, crm=crm, bank=bank) as values:
        assert values_of(await ask(values, "balance")) == {"balance": "1"}
        assert crm.requests == []
        bank.values = {}
        assert problem_of(await ask(values, "balance", "name")) == (404, ["balance"])


async def test_an_alias_is_a_name_for_the_outside_only(tmp_path: Path) -> None:
    """Providers see the field; the reply has the name that was asked for, or both, from one look-up."""
    text = '[values.fields.balance]\naliases = ["Saldo", "amount due"]\n'
    crm = Knows({"balance": "1"}, {"balance"})
    async with asking(tmp_path, text, crm=crm) as values:
        assert values_of(await ask(values, "Saldo", "balance")) == {"Saldo": "1", "balance": "1"}
        assert values_of(await ask(values, "amount due")) == {"amount due": "1"}
        assert {request.fields for request in crm.requests} == {("balance",)}
        crm.values = {}
        assert problem_of(await ask(values, "Saldo")) == (404, ["Saldo"])


async def test_field_names_compare_exactly(tmp_path: Path) -> None:
    """`Balance` is not `balance`."""
    async with asking(tmp_path, crm=Knows({"balance": "1"})) as values:
        assert problem_of(await ask(values, "Balance")) == (404, ["Balance"])


async def test_names_that_differ_by_case_only_are_warned_of(tmp_path: Path) -> None:
    """Among the config's names, the aliases, and what providers declare."""
    text = '[values.fields.Balance]\n[values.fields.name]\naliases = ["Id"]\n'
    async with asking(tmp_path, text, crm=Knows({}, {"balance", "Balance", "name", "ID", "iban"})) as values:
        assert [(problem.path, problem.message) for problem in values.warnings()] == [
            ("values.fields.Balance", "differs from 'balance' by case only; they are two fields"),
            ("values.fields.ID", "differs from 'Id' by case only; they are two fields"),
        ]


async def test_a_default_answers_what_no_provider_knows(tmp_path: Path) -> None:
    """Not for a failure, unless `default_on_error` says so."""
    text = '[values.fields.a]\ndefault = "none"\n[values.fields.b]\ndefault = "?"\ndefault_on_error = true\n'
    crm = Knows({})
    async with asking(tmp_path, text, crm=crm) as values:
        assert values_of(await ask(values, "a", "b")) == {"a": "none", "b": "?"}
        for failure, status in ((OSError("down"), 502), (TimeoutError(), 504)):
            crm.values = failure
            assert problem_of(await ask(values, "a", "b")) == (status, ["a"])
        crm.values = SeveralCustomers()
        assert problem_of(await ask(values, "a", "b")) == (409, ["a", "b"])


async def test_a_field_may_need_the_customer_uid(tmp_path: Path) -> None:
    """Without one no provider is asked, and no default is used: the bot must ask for the customer ID first."""
    text = '[values.fields.balance]\nrequired_key = "customer_uid"\ndefault = "0"\ndefault_on_error = true\n'
    crm = Knows({"balance": "1", "hours": "9-5"})
    async with asking(tmp_path, text, crm=crm) as values:
        refused = await ask(values, "balance", uid=None, address="44777")
        assert problem_of(refused) == (404, ["balance"])
        assert refused.details["balance"].outcome == "refused"
        assert refused.problem == "a field needs a customer UID, and the request has none"
        assert crm.requests == []
        assert problem_of(await ask(values, "balance", "hours", uid=None)) == (404, ["balance"])
        assert crm.requests[-1].fields == ("hours",)
        assert values_of(await ask(values, "balance")) == {"balance": "1"}


def by_address(provider: Knows) -> tuple[str, ...]:
    """The fields that the last request lets the provider look up by the address."""
    return provider.requests[-1].fields_for("outbound_channel_address")


async def test_a_provider_is_told_what_it_must_not_look_up_by_the_address(tmp_path: Path) -> None:
    """Where a customer was named: what needs the UID, and what any of a field's providers can look up by it or
    does not say."""
    text = '[values.fields.balance]\nrequired_key = "customer_uid"\n'
    keys = {"name": ["customer_uid", "outbound_channel_address"], "hours": (), "due": ["outbound_channel_address"]}
    crm, phones = Knows({}, keys), Knows({}, {"balance", "name", "hours", "due"})
    async with asking(tmp_path, text, crm=crm, phones=phones) as values:
        await ask(values, "balance", "name", "hours", "due", address="44777")
        assert by_address(crm) == ("hours", "due")
        assert by_address(phones) == ("hours", "due")
        assert phones.requests[-1].fields_for("customer_uid") == ("balance", "name", "hours", "due")
        await ask(values, "name", "hours", "due", uid=None, address="44777")
        assert by_address(phones) == ("name", "hours", "due")
        assert phones.requests[-1].fields_for("customer_uid") == ()
    late = Knows({})
    async with asking(tmp_path, phones=phones, late=late) as values:
        await ask(values, "due", address="44777")
        assert by_address(phones) == ()
    text = '[values.fields.due]\nprovider = "phones"\n'
    async with asking(tmp_path, text, phones=phones, late=late) as values:
        await ask(values, "due", address="44777")
        assert by_address(phones) == ("due",)


async def test_a_value_is_written_in_its_format_and_must_match_its_pattern(tmp_path: Path) -> None:
    """What does not fit is a failure: a bot must not say half a number."""
    text = (
        '[values.fields.balance]\nformat = "{:,.2f}"\npattern = "[0-9,]+\\\\.[0-9]{2}"\n'
        '[values.fields.due]\nformat = "%d/%m/%Y"\n'
    )
    crm = Knows({"balance": "1890.5", "due": date(2026, 9, 1)})
    async with asking(tmp_path, text, crm=crm) as values:
        assert values_of(await ask(values, "balance", "due")) == {"balance": "1,890.50", "due": "01/09/2026"}
        for nonsense in ("n/a", "-5", True):
            crm.values = {"balance": nonsense, "due": "2026-09-01"}
            assert problem_of(await ask(values, "balance", "due")) == (502, ["balance"])


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ('provider = "bank"', ".provider", 'the plugin "bank" is not enabled; enabled plugins: crm'),
        ('aliases = ["other"]', ".aliases[0]", '"other" is also the name of a field'),
        ("default_on_error = true", ".default_on_error", "needs a `default` too"),
        ('default = "x"\npattern = "[0-9]+"', ".default", "does not match the field's pattern"),
        ('required_key = "phone"', ".required_key", 'expected one of "customer_uid"'),
        ('cache = "often"', ".cache", 'expected a duration such as "30s", "5m" or "24h", found "often"'),
        ('pattern = "["', ".pattern", "is not a regular expression: unterminated character set at position 0"),
        ('format = "{!r}"', ".format", "expected a number format such as"),
        ("colour = 1", ".colour", "unknown key"),
    ],
)
def test_a_faulty_field_is_an_error_at_start(tmp_path: Path, text: str, path: str, message: str) -> None:
    """With its dotted path and a sentence."""
    with pytest.raises(ConfigError) as raised:
        read_config(tmp_path, f"[values.fields.other]\n[values.fields.balance]\n{text}\n[plugins.crm]\n")
    [problem] = raised.value.problems
    assert problem.path == "values.fields.balance" + path
    assert problem.message.startswith(message)


def test_two_fields_cannot_have_one_alias(tmp_path: Path) -> None:
    """The request could mean either."""
    with pytest.raises(ConfigError) as raised:
        read_config(tmp_path, '[values.fields.a]\naliases = ["x"]\n[values.fields.b]\naliases = ["x"]\n')
    assert [(p.path, p.message) for p in raised.value.problems] == [
        ("values.fields.b.aliases[0]", '"x" is already an alias of a')
    ]


def test_an_owner_must_answer_custom_values(tmp_path: Path) -> None:
    """A plugin that takes events only cannot own a field."""

    class Events:
        def on_event(self, event: object) -> None: ...

    config = read_config(tmp_path, '[values.fields.a]\nprovider = "log"\n[plugins.log]\n[plugins.crm]\n')
    with pytest.raises(ConfigError) as raised:
        CustomValues(config, scripted(config, {"log": Events(), "crm": Knows()}))
    assert [(p.path, p.message) for p in raised.value.problems] == [
        ("values.fields.a.provider", "log answers no custom values; those that do: crm")
    ]


@pytest.mark.parametrize(
    "declared", ["balance", 7, {"balance": "customer_uid"}, {"balance": {"uid"}}, {"balance": 7}, RuntimeError("boom")]
)
async def test_a_provider_that_cannot_say_its_fields_is_asked_for_all(
    tmp_path: Path, declared: object, caplog: pytest.LogCaptureFixture
) -> None:
    """A declaration that cannot be read is logged, and costs look-ups, not answers."""

    class Odd(Knows):
        def custom_value_fields(self) -> Any:
            if isinstance(declared, Exception):
                raise declared
            return declared

    async with asking(tmp_path, crm=Odd({"iban": "1"})) as values:
        assert values_of(await ask(values, "iban")) == {"iban": "1"}
    assert "provider crm does not say which fields it knows: " in caplog.text
    assert isinstance(declared, Exception) or "UnusableReply: custom_value_fields" in caplog.text


async def test_a_provider_that_learns_its_fields_later_is_asked_again(tmp_path: Path) -> None:
    """Its database was down at the start; once it has answered, fields that it cannot know cost it no look-up."""
    clock, late, other = Clock(), Knows({"balance": "1"}), Knows({"hours": "9-5"}, {"hours"})
    async with asking(tmp_path, clock=clock, late=late, other=other) as values:
        late.fields = {"balance"}
        assert values_of(await ask(values, "hours", "balance")) == {"hours": "9-5", "balance": "1"}
        assert late.requests[-1].fields == ("hours", "balance")
        clock.ahead += DECLARE_EVERY
        seen = other.requests[-1]
        await ask(values, "balance")
        async with asyncio.timeout(5):
            while late.requests[-1].fields == ("hours", "balance") or other.requests[-1] is seen:
                seen = other.requests[-1]
                await ask(values, "hours", "balance")


async def test_every_request_for_values_leaves_a_record(tmp_path: Path) -> None:
    """The organisation, the customer, and the outcome of each field; the address is masked, and no value is kept."""
    records: list[ValueRecord] = []
    async with asking(tmp_path, "[values]\naudit = true\n", crm=Knows({"balance": "120.50"})) as values:
        values.keep_record = records.append
        await ask(values, "balance", address="447717472695")
        await ask(values, "balance", "iban", uid=None, address="447717")
        await ask(values)
    first, second = records
    assert (first.organisation, first.customer_uid, first.status) == ("acme", "123456", 200)
    assert (first.address, second.address) == ("*********695", "******")
    assert first.at.tzinfo is not None
    assert {name: (d["outcome"], d["provider"]) for name, d in second.fields.items()} == {
        "balance": ("value", "crm"),
        "iban": ("unknown", "crm"),
    }
    assert (second.customer_uid, second.status) == (None, 404)
    assert "120.50" not in repr(records)


async def test_a_record_that_cannot_be_kept_does_not_cost_the_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The customer is waiting; the operator finds a line in the log."""

    def full(record: ValueRecord) -> None:
        raise OSError("disk full")

    async with asking(tmp_path, "[values]\naudit = true\n", crm=Knows({"balance": "1"})) as values:
        values.keep_record = full
        assert values_of(await ask(values, "balance")) == {"balance": "1"}
    assert "a custom value request could not be recorded: OSError: disk full" in caplog.text


async def test_without_audit_nothing_is_recorded(tmp_path: Path) -> None:
    """`[values] audit` is off unless the config turns it on."""
    records: list[ValueRecord] = []
    async with asking(tmp_path, crm=Knows({"balance": "1"})) as values:
        values.keep_record = records.append
        await ask(values, "balance")
    assert records == []

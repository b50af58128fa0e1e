"""Never another customer's value: whatever is asked at once, cached, shared, renamed, slow or failing."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from asking import Knows, ask, asking, problem_of, running, values_of
from databases import KINDS, Database, open_database
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import CustomValueRequest, SeveralCustomers

ORGANISATIONS = st.sampled_from(["acme", "other"])
UIDS = st.sampled_from(["1", "2", "12", "21"])
PHONES = st.sampled_from(["1", "2", "+1", "12"])
FIELDS = ("balance", "name")


class Registry:
    """Customers of two organisations, found by UID or else by phone; every look-up takes its own time."""

    def __init__(self, customers: Mapping[tuple[str, str], str], delays: random.Random) -> None:
        self.customers = dict(customers)
        self.delays = delays
        self.version = 0

    def matches(self, organisation: str, uid: str | None, phone: str | None) -> set[str]:
        mine = {key[1]: phone for key, phone in self.customers.items() if key[0] == organisation}
        if uid is not None:
            return {uid} & mine.keys()
        return {one for one, its in mine.items() if phone is not None and its == phone}

    async def __call__(self, request: CustomValueRequest) -> Mapping[str, Any]:
        for _ in range(self.delays.randrange(4)):
            await asyncio.sleep(0)
        found = self.matches(request.organisation, request.customer_uid, request.outbound_channel_address)
        version = self.version
        for _ in range(self.delays.randrange(4)):
            await asyncio.sleep(0)
        if self.delays.random() < 0.1:
            raise OSError("gone")
        if len(found) > 1:
            raise SeveralCustomers
        return {field: f"{request.organisation}/{uid}/{field}/{version}" for uid in found for field in request.fields}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    customers=st.dictionaries(st.tuples(ORGANISATIONS, UIDS), PHONES, max_size=6),
    questions=st.lists(
        st.tuples(ORGANISATIONS, st.none() | UIDS, st.none() | PHONES, st.sets(st.sampled_from(FIELDS), min_size=1)),
        min_size=1,
        max_size=40,
    ),
    cache=st.sampled_from(["0s", "1h"]),
    seed=st.integers(0, 2**32),
)
async def test_an_answer_is_the_asked_customers_or_a_failure(
    tmp_path: Path,
    customers: dict[tuple[str, str], str],
    questions: list[tuple[str, str | None, str | None, set[str]]],
    cache: str,
    seed: int,
) -> None:
    """Forty questions at once, with and without the cache: each value names the customer that the question means."""
    registry = Registry(customers, random.Random(seed))

    async def one(values: Any, organisation: str, uid: str | None, phone: str | None, fields: set[str]) -> None:
        began = registry.version
        answer = await ask(values, *fields, organisation=organisation, uid=uid, address=phone)
        registry.version += 1
        found = registry.matches(organisation, uid, phone)
        if answer.status != 200:
            assert problem_of(answer)[0] in ({502, 409} if len(found) > 1 else {502} if found else {502, 404})
            return
        [customer] = found
        for field, value in values_of(answer).items():
            whose, version = value.rsplit("/", 1)
            assert whose == f"{organisation}/{customer}/{field}"
            assert cache == "1h" or int(version) >= began - len(questions)

    async with asking(tmp_path, f'[values]\ncache = "{cache}"\n', crm=Knows(answer=registry)) as values:
        await asyncio.gather(*(one(values, *question) for question in questions))


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with open_database(request.param, tmp_path) as database:
        database.execute(
            f"CREATE TABLE {database.table} (uid VARCHAR(20) PRIMARY KEY, phone VARCHAR(20), name VARCHAR(50))"
        )
        rows = [{"uid": str(n), "phone": f"44777{n // 2 * 2 if n < 100 else n}", "name": f"of {n}"} for n in range(600)]
        database.execute(f"INSERT INTO {database.table} VALUES (:uid, :phone, :name)", *rows)
        yield database


def configured(database: Database) -> str:
    table = f'[values]\ndeadline = "30s"\n[plugins.sql_values]\nurl = {database.config}\npool_timeout = "30s"\n'
    for where in ("uid = :customer_uid", "phone = :address_digits"):
        table += f'[[plugins.sql_values.queries]]\nsql = "SELECT uid, name FROM {database.table} WHERE {where}"\n'
    return table


async def test_hundreds_of_customers_at_once_get_their_own(database: Database, tmp_path: Path) -> None:
    """By UID and by phone, over ten connections; the hundred that share a phone with another one get nothing."""

    async def by_uid(values: Any, n: int) -> None:
        answer = await ask(values, "name", "uid", uid=str(n), address="447770")
        assert values_of(answer) == {"name": f"of {n}", "uid": str(n)}

    async def by_phone(values: Any, n: int) -> None:
        answer = await ask(values, "name", "uid", uid=None, address=f"+44 777{n}")
        if n < 100:
            assert problem_of(answer) == (409 if n % 2 == 0 else 404, ["name", "uid"])
        else:
            assert values_of(answer) == {"name": f"of {n}", "uid": str(n)}

    async with running(tmp_path, configured(database)) as (values, _):
        await asyncio.gather(*(by_uid(values, n) for n in range(300)), *(by_phone(values, n) for n in range(300)))


BY_UID = "SELECT name FROM customers WHERE uid = :customer_uid"
BY_PHONE = "SELECT name FROM customers WHERE phone = :address_digits"
BY_BOTH = "SELECT name FROM customers WHERE uid = :customer_uid AND phone = :address_digits"


def customers(directory: Path) -> None:
    """Two customers in a SQLite file, found by `BY_UID` and the like."""
    with closing(sqlite3.connect(directory / "customers.db")) as connection:
        connection.execute("CREATE TABLE customers (uid TEXT, phone TEXT, name TEXT)")
        connection.execute("INSERT INTO customers VALUES ('1', '44777000001', 'Mary'), ('2', '44777000002', 'Tom')")
        connection.commit()


def instances(**statements: str) -> str:
    """Instances of sql_values by name, with a statement each."""
    return "".join(
        f'[plugins.{name}]\nuse = "sql_values"\nurl = "sqlite:///customers.db"\n'
        f'[[plugins.{name}.queries]]\nsql = "{sql}"\n'
        for name, sql in statements.items()
    )


async def test_a_field_that_needs_the_uid_is_never_looked_up_by_the_phone_alone(tmp_path: Path) -> None:
    """Also where no provider can look it up by UID: the phone's owner may be another customer."""
    customers(tmp_path)
    required = '[values.fields.name]\nrequired_key = "customer_uid"\n'
    async with running(tmp_path, required + instances(phones=BY_PHONE)) as (values, _):
        assert problem_of(await ask(values, "name", uid="NOBODY", address="44777000001")) == (404, ["name"])
    async with running(tmp_path, required + instances(both=BY_BOTH)) as (values, _):
        assert problem_of(await ask(values, "name", uid="NOBODY", address="44777000001")) == (404, ["name"])
        assert values_of(await ask(values, "name", uid="1", address="44777000001")) == {"name": "Mary"}


@pytest.mark.parametrize("order", [{"lite": BY_UID, "rest": BY_PHONE}, {"rest": BY_PHONE, "lite": BY_UID}])
@pytest.mark.parametrize("cache", ["0s", "1h"])
async def test_the_phone_does_not_answer_in_one_instance_for_the_uid_of_another(
    tmp_path: Path, order: dict[str, str], cache: str
) -> None:
    """A mistyped UID finds no customer, in any order of the instances; the right one finds its customer, and
    without one the phone answers."""
    customers(tmp_path)
    who: list[tuple[str | None, str | None]] = [("NOBODY", None), ("2", "Tom"), (None, "Mary"), ("1", "Mary")]
    async with running(tmp_path, f'[values]\ncache = "{cache}"\n' + instances(**order)) as (values, _):
        for uid, name in who * 2:
            same = await asyncio.gather(*(ask(values, "name", uid=uid, address="44777000001") for _ in range(3)))
            for answer in same:
                if name is None:
                    assert problem_of(answer) == (404, ["name"])
                else:
                    assert values_of(answer) == {"name": name}


async def test_two_instances_that_only_know_phones_answer_by_phone(tmp_path: Path) -> None:
    """No provider can look up the UID, so the phone does not answer in the place of one."""
    customers(tmp_path)
    text = instances(one=BY_PHONE, two=BY_PHONE.replace("phone =", "'x' || phone ="))
    async with running(tmp_path, text) as (values, _):
        answer = await ask(values, "name", uid="NOBODY", address="44777000001")
        assert values_of(answer) == {"name": "Mary"}


async def test_the_phone_does_not_answer_while_the_one_that_knows_uids_is_down(tmp_path: Path) -> None:
    """Not as its fallback either, and not when its database has come back but did not tell its columns yet."""
    customers(tmp_path)
    text = "[values.fields.name]\nfallback = true\n" + instances(lite=BY_UID, rest=BY_PHONE)
    text = text.replace("customers.db", "down.db", 1)
    async with running(tmp_path, text) as (values, _):
        answer = await ask(values, "name", uid="NOBODY", address="44777000001")
        assert problem_of(answer) == (502, ["name"])
        shutil.copyfile(tmp_path / "customers.db", tmp_path / "down.db")
        answer = await ask(values, "name", uid="NOBODY", address="44777000001")
        assert problem_of(answer) == (404, ["name"])
        assert values_of(await ask(values, "name", uid="2", address="44777000001")) == {"name": "Tom"}


async def test_a_customer_who_is_renamed_meanwhile_is_never_half_another(database: Database, tmp_path: Path) -> None:
    """Two customers swap their UIDs again and again: every answer is one row as it was at some moment."""
    pairs = {("500", "of 500"), ("500", "of 501")}

    async def rename(done: asyncio.Event) -> None:
        steps = [("tmp", "500"), ("500", "501"), ("501", "tmp")]
        swap = [f"UPDATE {database.table} SET uid = '{new}' WHERE uid = '{old}'" for new, old in steps]
        try:
            for _ in range(20):
                await asyncio.to_thread(database.transaction, *swap)
        finally:
            done.set()

    async with running(tmp_path, configured(database)) as (values, _):
        done, seen = asyncio.Event(), set()
        renaming = asyncio.ensure_future(rename(done))
        number = 0
        while not done.is_set():
            number += 1
            answer = await ask(values, "uid", "name", uid="500", address=str(number))
            seen.add(tuple(values_of(answer).values()))
        await renaming
        assert seen <= pairs

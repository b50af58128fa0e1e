"""The examples in the docs of custom values are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from asking import Knows, ask, asking
from running import read_config

from gateway.plugin_host.load import load_plugins
from gateway.values.service import CustomValues

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ["custom-values.md", *(f"plugins-bundled/{name}_values.md" for name in ("sql", "http", "static"))]


def examples(page: str) -> list[str]:
    return re.findall(r"```toml\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_every_config_example_is_accepted(tmp_path: Path, page: str) -> None:
    """As it stands, with the secrets it names in place."""
    (tmp_path / "var").mkdir()
    for name in ("database.password", "crm.token"):
        (tmp_path / "var" / name).write_text("secret")
    assert examples(page)
    for number, example in enumerate(examples(page)):
        text = example
        if 'provider = "crm"' in text:
            text += '[plugins.crm]\nuse = "static_values"\n'
        directory = tmp_path / str(number)
        directory.mkdir()
        (directory / "var").symlink_to(tmp_path / "var")
        config = read_config(directory, text)
        CustomValues(config, load_plugins(config))


async def test_the_table_of_what_the_customer_sees_holds(tmp_path: Path) -> None:
    """The rows about a missing due date, as the page has them."""

    async def statuses(text: str) -> tuple[int, bytes]:
        known = {"balance": "120.50", "due_date": None}
        async with asking(tmp_path, text, crm=Knows(known)) as values:
            answer = await ask(values, "balance", "due_date")
            return answer.status, answer.body

    assert (await statuses(""))[0] == 404
    assert await statuses('[values]\nnullable = ["due_date"]\n') == (
        200,
        b'{"balance":"120.50","due_date":null}',
    )
    default = await statuses('[values.fields.due_date]\ndefault = "no date"\n')
    assert default == (200, b'{"balance":"120.50","due_date":"no date"}')


async def test_an_empty_text_and_the_word_null_are_answers_that_a_pattern_refuses(tmp_path: Path) -> None:
    """What the page says of texts, with its own example of a pattern."""

    async def statuses(text: str) -> list[int]:
        async with asking(tmp_path, text, crm=Knows({"empty": "", "word": "null"})) as values:
            return [(await ask(values, field)).status for field in ("empty", "word")]

    pattern = 'pattern = "[0-9.]+"\n'
    assert await statuses("") == [200, 200]
    assert await statuses(f"[values.fields.empty]\n{pattern}[values.fields.word]\n{pattern}") == [502, 502]


def test_the_two_spellings_of_the_phone_number_have_the_same_digits() -> None:
    """What Webio sends, and what the database may hold."""
    page = (DOCS / "plugins-bundled/sql_values.md").read_text()
    [(sent, held)] = re.findall(r"Webio sends `(\d+)`, your database may hold `([^`]+)`", page)
    assert sent == re.sub(r"\D", "", held)

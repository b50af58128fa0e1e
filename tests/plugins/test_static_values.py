"""static_values: constants from the config, per organisation where they differ."""

from __future__ import annotations

from pathlib import Path

import pytest
from asking import ask, problem_of, running, values_of
from running import read_config

from gateway.config.convert import ConfigError
from gateway.plugin_host.load import load_plugins

TABLES = """
[plugins.static_values.values]
"opening hours" = "9-5"
support = "0800 123"
rate = 4.25
since = 2026-09-01
open = true
[plugins.static_values.organisations.acme]
support = "0800 999"
"""


async def test_constants_are_answered_to_every_customer(tmp_path: Path) -> None:
    """Texts, numbers, dates and truths, without a customer or an address."""
    async with running(tmp_path, TABLES) as (values, _):
        answer = await ask(values, "opening hours", "rate", "since", "open", uid=None)
        assert values_of(answer) == {"opening hours": "9-5", "rate": "4.25", "since": "2026-09-01", "open": "true"}
        assert problem_of(await ask(values, "closing hours")) == (404, ["closing hours"])


async def test_an_organisations_own_values_come_over_the_common_ones(tmp_path: Path) -> None:
    """What it does not set is as for everybody."""
    async with running(tmp_path, TABLES) as (values, _):
        answer = await ask(values, "support", "opening hours", organisation="acme")
        assert values_of(answer) == {"support": "0800 999", "opening hours": "9-5"}
        assert values_of(await ask(values, "support", organisation="other")) == {"support": "0800 123"}


def test_an_organisation_that_is_none_stops_the_start(tmp_path: Path) -> None:
    """A slip there would silently answer with the common value."""

    with pytest.raises(ConfigError) as raised:
        load_plugins(read_config(tmp_path, "[plugins.static_values.organisations.acne]\nsupport = '1'\n"))
    [problem] = raised.value.problems
    assert problem.path == "plugins.static_values.organisations.acne"
    assert problem.message == 'unknown organisation "acne"; did you mean "acme"?'


@pytest.mark.parametrize("value", ["[1]", "{ a = 1 }", "nan", "inf", "09:00:00"])
def test_what_is_no_constant_is_an_error_at_start(tmp_path: Path, value: str) -> None:
    """With its path."""
    with pytest.raises(ConfigError) as raised:
        load_plugins(read_config(tmp_path, f"[plugins.static_values.values]\na = {value}\n"))
    [problem] = raised.value.problems
    assert problem.path.startswith("plugins.static_values.values")
    assert "expected a text, a number, true or false, or a date" in problem.message

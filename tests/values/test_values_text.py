"""A provider's value as the text that the bot gets, and how the config may shape it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.formats import Format, Pattern
from gateway.values.answer import MAX_TEXT, BadValue, as_text


class Colour(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("120.50", "120.50"),
        ("", ""),
        ("Zoë 🙂", "Zoë 🙂"),
        (Colour.RED, "red"),
        (7, "7"),
        (-(10**30), "-1" + "0" * 30),
        (True, "true"),
        (False, "false"),
        (120.5, "120.5"),
        (0.1, "0.1"),
        (1e22, "10000000000000000000000"),
        (1.5e-7, "0.00000015"),
        (Decimal("120.50"), "120.50"),
        (Decimal("1E+3"), "1000"),
        (Decimal("1E-8"), "0.00000001"),
        (Decimal("12345678901234567890.1234567890"), "12345678901234567890.1234567890"),
        (-0.0, "0.0"),
        (Decimal("-0.00"), "0.00"),
        (-0.001, "-0.001"),
        ("0000-00-00-17", "0000-00-00-17"),
        (date(2026, 9, 1), "2026-09-01"),
        (datetime(2026, 9, 1, 12, 30), "2026-09-01T12:30:00"),
        (datetime(2026, 9, 1, 12, 30, tzinfo=UTC), "2026-09-01T12:30:00+00:00"),
    ],
)
def test_values_go_out_as_plain_text(value: object, text: str) -> None:
    """Decimals exact and without an exponent, zero without a sign, dates ISO 8601, truth in lower case."""
    assert as_text(value) == text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "a number that is not finite"),
        (float("-inf"), "a number that is not finite"),
        (Decimal("NaN"), "a number that is not finite"),
        (Decimal("Infinity"), "a number that is not finite"),
        (Decimal("1E+999999"), "a number that is too long"),
        (Decimal("1E-999999"), "a number that is too long"),
        (Decimal("0E-999999"), "a number that is too long"),
        pytest.param(10**20_000, "a number that is too long", id="20,000 digits"),
        (date.max, "a date that is not finite"),
        (date.min, "a date that is not finite"),
        (datetime.max, "a date that is not finite"),
        (datetime.min.replace(tzinfo=UTC), "a date that is not finite"),
        ("0000-00-00", "a zero date"),
        ("0000-00-00 00:00:00.000000", "a zero date"),
        ("0000-00-00T00:00:00", "a zero date"),
        (b"bytes", "a value of type bytes"),
        (["a"], "a value of type list"),
        ({"a": 1}, "a value of type dict"),
        (object(), "a value of type object"),
        ("x" * (MAX_TEXT + 1), f"a value longer than {MAX_TEXT} characters"),
        ("\ud800", "a text that is not valid Unicode"),
    ],
)
def test_what_is_no_value_is_the_providers_fault(value: object, message: str) -> None:
    """The message names the kind of thing, never the thing."""
    with pytest.raises(BadValue) as raised:
        as_text(value)
    assert str(raised.value) == message


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4) | st.decimals(-1e9, 1e9))
def test_a_decimal_keeps_its_exact_value(value: Decimal) -> None:
    """Reading the text again gives the same number, whatever it was."""
    text = as_text(value)
    assert Decimal(text) == value
    assert "E" not in text.upper()


@pytest.mark.parametrize(
    ("source", "value", "text"),
    [
        ("{:.2f}", Decimal("1890.005"), "1890.01"),
        ("{:.2f}", "120.5", "120.50"),
        ("{:.2f}", 2, "2.00"),
        ("{:.2f}", 0.1, "0.10"),
        ("£{:,.2f}", Decimal("-1234567.891"), "£-1,234,567.89"),
        ("{:,d} points", 12345, "12,345 points"),
        ("{:d}", Decimal("2.5"), "3"),
        ("{:.1f} %", 12.34, "12.3 %"),
        ("£{:,.2f}", Decimal("-0.001"), "£0.00"),
        ("{:d}", "-0", "0"),
        ("{:.2f}", -0.005, "-0.01"),
        ("%d/%m/%Y", date(2026, 9, 1), "01/09/2026"),
        ("%-d %B %Y", "2026-09-01", "1 September 2026"),
        ("%d/%m/%Y %H:%M", "2026-09-01T08:05:00", "01/09/2026 08:05"),
        ("%d/%m/%Y", datetime(2026, 9, 1, 8, 5), "01/09/2026"),
        ("100%% on %A", date(2026, 9, 1), "100% on Tuesday"),
    ],
)
def test_formats_write_numbers_and_dates(source: str, value: Any, text: str) -> None:
    """Halves are rounded up, as on an invoice; a text that is a number or an ISO date counts as one."""
    assert Format(source).write(value, UTC) == text


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{:.2f}", "12,50"),
        ("{:.2f}", "1e3"),
        ("{:.2f}", "NaN"),
        ("{:.2f}", Decimal("NaN")),
        ("{:.2f}", True),
        ("{:.2f}", date(2026, 9, 1)),
        ("{:.2f}", "9" * 65),
        ("{:.2f}", Decimal("1E+70")),
        ("%d/%m/%Y", "1 September"),
        ("%d/%m/%Y", 20260901),
        ("%H:%M", date(2026, 9, 1)),
    ],
)
def test_a_value_that_does_not_fit_its_format_is_refused(source: str, value: Any) -> None:
    """Neither a guess nor a half-written text comes out; a date without a time has no `00:00`."""
    with pytest.raises(ValueError, match=r"\w"):
        Format(source).write(value, UTC)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime(2026, 8, 31, 22, tzinfo=UTC), "01/09/2026 00:00"),
        ("2026-08-31T22:00:00Z", "01/09/2026 00:00"),
        ("2026-03-29T00:30:00+00:00", "29/03/2026 01:30"),
        ("2026-03-29T01:30:00+00:00", "29/03/2026 03:30"),
        ("2026-09-01T00:00:00+03:00", "01/09/2026 00:00"),
        (datetime(2026, 8, 31, 22), "31/08/2026 22:00"),
        ("2026-08-31T22:00:00", "31/08/2026 22:00"),
    ],
)
def test_a_moment_is_told_by_the_clocks_of_its_zone(value: Any, text: str) -> None:
    """Berlin's first of September begins at 22:00 in UTC; a time without an offset, or with one of its own, is taken as
    it stands."""
    assert Format("%d/%m/%Y %H:%M").write(value, ZoneInfo("Europe/Berlin")) == text


def test_a_moment_that_has_no_place_in_its_zone_is_refused() -> None:
    """The year 10000 does not exist."""
    with pytest.raises(OverflowError):
        Format("%d/%m/%Y").write(datetime(9999, 12, 31, 23, 30, tzinfo=UTC), ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize(
    "source",
    [
        "",
        "plain",
        "{}",
        "{0}",
        "{:.2f}{:.2f}",
        "{value}",
        "{:.2f!r}",
        "{:>10000}",
        "{0.__class__}",
        "%",
        "%Q",
        "%c",
        "%d {:.2f}",
        5,
    ],
)
def test_only_a_closed_set_of_formats_is_read(source: Any) -> None:
    """Nothing of Python's format language that could reach into objects or fill memory."""
    with pytest.raises(ValueError, match=r'"\{:\.2f\}"|date directives'):
        Format.from_config(source, Path())


def test_more_places_than_any_number_has_are_refused() -> None:
    """No value could be written with them, so the field would fail always."""
    assert Format("{:.30f}").write(1, UTC) == "1." + "0" * 30
    with pytest.raises(ValueError, match=r'^expected at most 30 digits after the point, found "\{:\.31f\}"$'):
        Format.from_config("{:.31f}", Path())


def test_a_pattern_matches_the_whole_value() -> None:
    """A value with something before or after what is expected does not match."""
    pattern = Pattern.from_config("[0-9]+", Path())
    assert [pattern.matches(text) for text in ("123", "123 ", "x123", "123\n", "")] == [
        True,
        False,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("source", "message"), [("[", "is not a regular expression: "), ("", "expected a regular"), (3, "expected")]
)
def test_what_is_no_pattern_is_refused(source: Any, message: str) -> None:
    """The operator is told at start, not by a failing request."""
    with pytest.raises(ValueError, match=message):
        Pattern.from_config(source, Path())

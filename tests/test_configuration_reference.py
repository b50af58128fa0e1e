"""docs/configuration.md is what the tables of the config say."""

from __future__ import annotations

from pathlib import Path

import make_configuration
import msgspec
import pytest

from gateway.config import tables

ROOT = Path(__file__).parents[1]


def test_the_reference_is_up_to_date() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()

    assert make_configuration.page() == page, "docs/configuration.md is out of date: run `make docs-reference`"


def test_every_table_of_the_config_is_in_it() -> None:
    """A new table needs a section."""
    known = {name.partition(".")[0] for name, _, _ in make_configuration.SECTIONS}

    assert known == {*tables.Config.__struct_fields__} - {"source"}


def test_a_key_without_a_description_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = msgspec.defstruct("Silent", [("key", str)])
    monkeypatch.setattr(make_configuration, "SECTIONS", (("silent", "About it.", kind),))

    with pytest.raises(ValueError, match=r"^\[silent\] key: has no description; add one in gateway/config/tables\.py$"):
        make_configuration.page()

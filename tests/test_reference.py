"""docs/reference.md is what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gateway
from gateway import testing
from gateway.plugin_host.bind import HOOK_NAMES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reference.md").read_text()
INNER = {"CONTRACT", "Payload", "Value", "Values", "hookimpl", "CHECKS", "HttpAnswer", "JournalKind"}
"""Names that stand in the text of others, without a heading."""


def test_the_reference_is_up_to_date() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "docs" / "make_reference.py"], capture_output=True, text=True, check=True
    )
    assert made.stdout == PAGE, "docs/reference.md is out of date: run `make docs-reference`"


def test_everything_that_is_exported_is_in_it() -> None:
    """Every hook, and every public name of `gateway` and `gateway.testing`."""
    for name in {*HOOK_NAMES, *gateway.__all__, *testing.__all__} - INNER:
        assert f"## {name}\n" in PAGE, name


def test_the_names_of_the_kit_can_be_imported() -> None:
    assert [name for name in testing.__all__ if not hasattr(testing, name)] == []

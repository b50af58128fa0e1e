"""What docs/tutorial.md says works as it stands there, on a real PostgreSQL."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import tutorial
from databases import open_database
from sqlalchemy import URL

PAGE = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text()
SHOWN = re.findall(r"postgresql://[^\"]+", PAGE)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, as psql understands it."""
    if shutil.which("psql") is None:
        message = "psql is not installed"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    with open_database("postgresql", tmp_path) as opened:
        name = f"tutorial_{secrets.token_hex(6)}"
        server = opened.url.set(drivername="postgresql")
        _psql(server, f"CREATE DATABASE {name}")
        try:
            yield server.set(database=name).render_as_string(hide_password=False)
        finally:
            _psql(server, f"DROP DATABASE {name} WITH (FORCE)")


def test_the_tutorial_works_as_written(tmp_path: Path, database: str) -> None:
    """Every file and command in the order of the page; what is printed is what the page shows."""
    folder = tmp_path / "newcomer"
    folder.mkdir()

    ran = tutorial.follow(PAGE, folder, dict.fromkeys(SHOWN, database))

    assert {"gateway init", "gateway check", "gateway run"} <= set(ran)
    assert len(set(SHOWN)) == 1, "the page shows one URL, which a reader replaces"


def _psql(server: URL, statement: str) -> None:
    subprocess.run(
        ["psql", "--quiet", server.render_as_string(hide_password=False), "-c", statement], check=True, timeout=60
    )

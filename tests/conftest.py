"""Fixtures for every test. What they are made of is in `running.py`, which tests may import."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from running import RunningGateway, running

StartGateway = Callable[..., RunningGateway]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as the gateway does."""
    return "asyncio"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on this process's path, for `write_plugin`; what was imported from it is forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and Path(sys.modules[name].__file__).is_relative_to(folder):
            del sys.modules[name]


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[StartGateway]:
    """Starts gateways in this test's folder, with the arguments of `running` after the folder."""
    with ExitStack() as stack:

        def start(*arguments: str, directory: Path = tmp_path, **options: dict[str, str]) -> RunningGateway:
            return stack.enter_context(running(directory, *arguments, **options))

        yield start


@pytest.fixture
def running_gateway(start_gateway: StartGateway) -> RunningGateway:
    """A gateway that runs with the archive on, and nothing sent to it yet."""
    return start_gateway('[plugins.archive]\ndirectory = "archive"\n')

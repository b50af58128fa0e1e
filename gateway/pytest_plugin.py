"""The fixtures that pytest finds by itself where the gateway is installed. They import the kit only when they are used,
since pytest loads this module in every run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gateway import Context
    from gateway.testing import BlockingGateway, JournalKind


@pytest.fixture
def webio_gateway(tmp_path: Path) -> Iterator[Callable[..., BlockingGateway]]:
    """Starts gateways in the test's folder, with the arguments of `gateway.testing.blocking_gateway`:
    `webio_gateway("[plugins.ledger]", {"ledger": LedgerPlugin})`. They stop after the test."""
    from gateway.testing import blocking_gateway

    with ExitStack() as stack:

        def start(
            config: str | Mapping[str, Any] = "",
            plugins: Mapping[str, Any] | None = None,
            *,
            directory: Path = tmp_path,
            journal: JournalKind = "memory",
            listen: bool = False,
        ) -> BlockingGateway:
            running = blocking_gateway(config, plugins, directory=directory, journal=journal, listen=listen)
            return stack.enter_context(running)

        yield start


@pytest.fixture
def plugin_context(tmp_path: Path) -> Context:
    """The argument of `startup`, for a test that calls hooks itself."""
    from gateway.testing import make_context

    return make_context(tmp_path)

"""The plugins that send to a broker reach the tier that their packages state, each with the real server."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from brokers_kit import BROKERS, broker_of, ids_of
from tiers import require_tier

from gateway.testing import PluginCase

pytestmark = pytest.mark.timeout(400)  # on a busy machine


@pytest.mark.parametrize("name", sorted(BROKERS))
def test_it_is_complete(name: str) -> None:
    """Each check has a place of its own in the broker. An outage is a cable that is cut."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(broker_of(name)) as (first, cable),
    ):
        made = [first]

        def case(folder: Path) -> PluginCase:
            broker = type(first)(first.url)
            made.append(broker)
            portal.call(broker.prepare)

            @contextmanager
            def away() -> Iterator[None]:
                portal.call(cable.cut)
                try:
                    yield
                finally:
                    portal.call(cable.mend)

            table = broker.table("127.0.0.1", cable.port) + 'confirm_timeout = "5s"\n'
            return PluginCase(
                config=tomllib.loads(table),
                taken=lambda: ids_of(portal.call(broker.lines)),
                fails=away,
                repeats=True,
                keeps=False,
            )

        try:
            require_tier(first.plugin, case)
        finally:
            for broker in made[1:]:
                portal.call(broker.clean)

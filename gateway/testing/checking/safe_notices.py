"""The tier *safe*, for plugins that take notices."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from gateway.hookspecs import Notice
from gateway.plugin_host.load import Plugin
from gateway.testing.checking.bench import Bench
from gateway.testing.checking.canaries import listening
from gateway.testing.checking.report import CheckFailed, NotApplicable
from gateway.testing.checking.starts import call, closed, start, stop

_SINCE: Final = datetime(2026, 1, 1, tzinfo=UTC)
_NOTICES: Final = (
    Notice(kind="dead-letters", key="1", plugin="crm", count=3, sentence="crm has 3 dead letters", since=_SINCE),
    Notice(kind="unknown-type", key="2", count=1, sentence='an event of the type "refund" came in', since=_SINCE),
    Notice(kind="plugin", key="3", plugin="crm", sentence="plugin crm is not healthy", since=_SINCE),
    Notice(kind="journal", key="4", sentence="new events are refused with 503", since=_SINCE),
    Notice(kind="journal", key="4", sentence="new events are kept again", since=_SINCE, recovered=True),
)


def takes_notices(bench: Bench) -> None:
    """The plugin takes a notice of each kind, and its end, without raising, also while the target fails, and says no
    secret of the config."""
    if not hasattr(bench.kind, "notice"):
        raise NotApplicable("it takes no notices")
    with listening() as heard:
        bench.run(_takes_notices(bench, heard.prepare))
    if leak := heard.leak(bench.case.secrets):
        raise CheckFailed(leak)


async def _takes_notices(bench: Bench, prepare: Callable[[Plugin], None]) -> None:
    plugin = bench.plugin()
    prepare(plugin)
    try:
        await start(bench, plugin)
        for notice in _NOTICES:
            await call(plugin, "notice", notice)
        if bench.case.fails is not None:
            with bench.case.fails():
                for notice in _NOTICES:
                    await call(plugin, "notice", notice)
        await stop(plugin)
    finally:
        await closed(plugin)


CHECKS: Final = (takes_notices,)

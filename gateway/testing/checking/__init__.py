"""Checks that any plugin should pass, in three tiers: it *starts*, it is *safe*, it is *complete*."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from gateway.testing.checking import complete, safe, safe_notices, safe_values, starts
from gateway.testing.checking.bench import Bench, bench_of
from gateway.testing.checking.case import PluginCase
from gateway.testing.checking.report import CheckFailed, CheckReport, CheckResult, NotApplicable, Outcome, Tier
from gateway.text import describe

Check = Callable[[Bench], None]
CHECKS: Final[dict[Tier, tuple[Check, ...]]] = {
    Tier.STARTS: starts.CHECKS,
    Tier.SAFE: (*safe.CHECKS, *safe_values.CHECKS, *safe_notices.CHECKS),
    Tier.COMPLETE: complete.CHECKS,
}
"""The checks of each tier. The docstring of a check says what it requires."""


def check_plugin(
    plugin: type, case: Callable[[Path], PluginCase], *, only: Collection[str] | None = None
) -> CheckReport:
    """Check a plugin's class, with all checks or those that `only` names. `case` is called for each check with a new
    folder, and returns the plugin's config and the way to its target.

        def case(folder: Path) -> PluginCase:
            target = folder / "payments.db"
            return PluginCase(config={"database": str(target)}, taken=lambda: ids_in(target))

        def test_the_plugin_is_complete() -> None:
            check_plugin(LedgerPlugin, case).require("complete")

    Takes some seconds. Where an event loop runs (an `async def` test whose loop serves the target), call it with
    `await asyncio.to_thread(check_plugin, plugin, case)`."""
    with ThreadPoolExecutor(1, thread_name_prefix="check_plugin") as pool:
        return pool.submit(lambda: CheckReport(plugin.__qualname__, tuple(_results(plugin, case, only)))).result()


def _results(plugin: type, case: Callable[[Path], PluginCase], only: Collection[str] | None) -> Iterator[CheckResult]:
    known = {check.__name__ for checks in CHECKS.values() for check in checks}
    if only is not None and (unknown := set(only) - known):
        raise ValueError(f"unknown checks {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}")
    for tier, checks in CHECKS.items():
        for check in checks:
            if only is not None and check.__name__ not in only:
                continue
            about = " ".join((inspect.getdoc(check) or "").split())
            outcome, message = _outcome(plugin, case, check)
            yield CheckResult(tier, check.__name__, outcome, about, message)


def _outcome(plugin: type, case: Callable[[Path], PluginCase], check: Check) -> tuple[Outcome, str]:
    try:
        with bench_of(plugin, case) as bench:
            check(bench)
    except NotApplicable as reason:
        return Outcome.NOT_APPLICABLE, str(reason)
    except CheckFailed as failure:
        return Outcome.FAILED, str(failure)
    except Exception as error:  # the plugin did something that no check expects
        return Outcome.FAILED, describe(error, None)
    return Outcome.PASSED, ""

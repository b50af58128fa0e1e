"""What came of the checks of one plugin."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple


class Tier(StrEnum):
    """How far a plugin has come; each tier includes the ones before it."""

    STARTS = "starts"
    SAFE = "safe"
    COMPLETE = "complete"


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"


class CheckFailed(AssertionError):
    """A check failed; the message says what was expected, what was found and what to do."""


class NotApplicable(Exception):
    """A check does not concern this plugin; the message says why."""


class CheckResult(NamedTuple):
    """The outcome of one check. `about` is what the check requires, and `message` why it failed or does not apply."""

    tier: Tier
    name: str
    outcome: Outcome
    about: str
    message: str = ""

    def __str__(self) -> str:
        told = f"{self.tier}: {self.name}: {self.outcome}"
        return f"{told}: {self.message}" if self.message else told


class CheckReport(NamedTuple):
    """The results of all checks, in their order."""

    plugin: str
    results: tuple[CheckResult, ...]

    @property
    def tier(self) -> Tier | None:
        """The highest tier that is reached: every check of it, and of the tiers before it, passed or does not apply."""
        reached = None
        for tier in Tier:
            if any(one.outcome is Outcome.FAILED for one in self.of(tier)):
                break
            reached = tier
        return reached

    def of(self, tier: Tier) -> Iterator[CheckResult]:
        """The results of one tier."""
        return (one for one in self.results if one.tier is tier)

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        return tuple(one for one in self.results if one.outcome is Outcome.FAILED)

    def require(self, tier: Tier | str) -> None:
        """`AssertionError` with every failed check of the tier and of those before it, unless it is reached."""
        wanted = _ORDER[: _ORDER.index(Tier(tier)) + 1]
        failed = [one for one in self.failed if one.tier in wanted]
        if failed:
            lines = "".join(f"\n  {one}\n    (it requires: {one.about})" for one in failed)
            raise AssertionError(f"{self.plugin} does not reach the tier {tier}:{lines}")

    def __str__(self) -> str:
        lines = "".join(f"\n  {one}" for one in self.results)
        return f"{self.plugin}: {self.tier or 'no tier'}{lines}"


_ORDER: Final = tuple(Tier)

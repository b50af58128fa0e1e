"""What an engine does of `Operator` whose journal one gateway has to itself: there are no others to share work with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.journal.operator import PluginAnswers, StoredOperation


class OneGateway:
    """See `Operator`."""

    async def claim(self, number: int) -> bool:
        return True

    async def share_erasure(self, number: int) -> None:
        """There is no other gateway."""

    async def shared_erasures(self) -> list[StoredOperation]:
        return []

    async def answer_erasure(self, number: int, answers: PluginAnswers) -> None:
        """No gateway has asked."""

    async def answers_of_others(self, number: int) -> Mapping[str, PluginAnswers | None] | None:
        return {}

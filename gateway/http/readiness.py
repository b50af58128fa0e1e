"""Whether the journal can be written and read, found out at most once a second for however many that ask."""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.journal.interface import Journal, JournalError

PROBE_SECONDS: Final = 5.0
SHARED_SECONDS: Final = 1.0
"""How long the result of a probe is used, from its begin on."""


class Readiness:
    """Shares one probe of the journal, a real write and a real read, between all requests of a second."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._probe: asyncio.Task[str | None] | None = None
        self._began = 0.0

    async def reason(self) -> str | None:
        """Why events cannot be kept now; None where they can."""
        refusal = self._journal.refusal()
        if refusal is not None:
            return refusal
        now = asyncio.get_running_loop().time()
        if self._probe is None or (self._probe.done() and now - self._began >= SHARED_SECONDS):
            self._probe, self._began = asyncio.create_task(self._ask()), now
        return await asyncio.shield(self._probe)  # a client that goes away does not end the probe of the others

    async def _ask(self) -> str | None:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._journal.probe()
        except JournalError as error:
            return str(error)
        except TimeoutError:
            return f"the journal did not answer a write and a read within {PROBE_SECONDS:g} s"
        return None

"""The admin listener's reading of the journal: in threads of its own and for a bounded time, never on the loop that
serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final, TypeVar

from gateway.config.tables import Config
from gateway.journal import open_reader
from gateway.journal.search import Search

T = TypeVar("T")
THREADS: Final = 2
SECONDS: Final = 5.0
"""How long one request may read. A gateway that stops waits for it."""

PAGE_SECONDS: Final = 0.1
"""After which a page of events ends, with a link to the rest, though not all events were looked at."""


class JournalReading:
    """Runs searches for the requests of the admin listener."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="admin-reader")

    async def ask(self, work: Callable[[Search], T]) -> T:
        """What `work` returns, which gets a search of its own in a thread. `JournalError`, also where it takes longer
        than `SECONDS`."""

        def run() -> T:
            with closing(open_reader(self._config)) as search:
                search.limit(SECONDS, PAGE_SECONDS)
                return work(search)

        return await self.run(run)

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns, in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

"""One Chromium for all tests of a file. It ends with the last of them: while it runs, no other test of the worker can
have an event loop of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browsing import chromium
from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found

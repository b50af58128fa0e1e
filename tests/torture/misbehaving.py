"""Plugins that misbehave, each in a way of its own, for a gateway that must not mind."""

from __future__ import annotations

from typing import Final

_HEAD: Final = """
import asyncio, logging, os, sys, threading, time, warnings
from gateway import hookimpl

class Plugin:
"""

BAD: Final[dict[str, str]] = {
    "raises": """
    @hookimpl
    def on_event(self, event):
        raise RuntimeError('never')
""",
    "raises_in_coroutine": """
    @hookimpl
    async def on_event(self, event):
        raise RuntimeError('never')
""",
    "exits": """
    @hookimpl
    def on_event(self, event):
        raise SystemExit(3)
""",
    "exits_in_coroutine": """
    @hookimpl
    async def on_event(self, event):
        sys.exit('enough')
""",
    "interrupts": """
    @hookimpl
    async def on_event(self, event):
        raise KeyboardInterrupt
""",
    "cancels": """
    @hookimpl
    async def on_event(self, event):
        raise asyncio.CancelledError
""",
    "cancels_itself": """
    @hookimpl
    async def on_event(self, event):
        asyncio.current_task().cancel()
        await asyncio.sleep(1)
""",
    "sleeps": """
    @hookimpl
    async def on_event(self, event):
        await asyncio.sleep(10**6)
""",
    "refuses_to_be_cancelled": """
    @hookimpl
    async def on_event(self, event):
        while True:
            try:
                await asyncio.sleep(10**6)
            except asyncio.CancelledError:
                pass
""",
    "blocks": """
    @hookimpl
    def on_event(self, event):
        threading.Event().wait()
""",
    "blocks_its_loop": """
    @hookimpl
    async def on_event(self, event):
        time.sleep(10)
""",
    "floods": """
    @hookimpl
    def startup(self, context):
        self.log = context.log

    @hookimpl
    def on_event(self, event):
        for number in range(20):
            self.log.warning('here is line %d about nothing', number)
        raise RuntimeError('x' * 10_000)
""",
    "talks_nonsense": """
    @hookimpl
    def on_event(self, event):
        async def nothing():
            pass
        return nothing()
""",
    "breaks_its_checkpoint": """
    @hookimpl
    def on_event(self, event):
        return object()

    @hookimpl
    def checkpoint(self):
        raise OSError('no disk')
""",
    "hangs_in_its_checkpoint": """
    @hookimpl
    async def on_event(self, event):
        return 42

    @hookimpl
    async def checkpoint(self):
        await asyncio.sleep(10**6)
""",
    "hangs_at_the_end": """
    @hookimpl
    def on_event(self, event):
        raise ValueError

    @hookimpl
    def shutdown(self):
        threading.Event().wait()
""",
}


def source(name: str) -> str:
    """The module of a bad plugin."""
    return _HEAD + BAD[name]

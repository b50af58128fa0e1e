"""What an operator changes in a running gateway, over the admin listener: its config, and the level of its log."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
from litestar import Request, post
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler

from gateway import log as logs
from gateway.http.audit import audit
from gateway.journal.interface import Filter
from gateway.reload import Reloaded, Reloader
from gateway.service import Gateway

log = logging.getLogger("gateway.server")

LEVELS = Literal["debug", "info", "warning", "error"]


class Level(msgspec.Struct, forbid_unknown_fields=True):
    """A level of the log. After `seconds`, if it is given, the config's level is in force again."""

    level: LEVELS
    seconds: float | None = None


class LevelSet(msgspec.Struct):
    level: LEVELS
    until: datetime | None


def steering(gateway: Gateway, reloader: Reloader) -> list[HTTPRouteHandler]:
    """The routes."""
    back: list[asyncio.TimerHandle] = []

    def restore() -> None:
        logs.set_level(gateway.config.log.level)
        log.warning("the log level is %s again", gateway.config.log.level)

    @post("/api/reload", status_code=200)
    async def reload(request: Request[Any, Any, Any]) -> Reloaded:
        done = await reloader.reload()
        audit(request, "reload of the config", Filter(), "done" if done.applied else "refused")
        return done

    @post("/api/log-level", status_code=200)
    async def log_level(request: Request[Any, Any, Any]) -> LevelSet:
        try:
            wanted = msgspec.json.decode(await request.body(), type=Level)
        except msgspec.MsgspecError as error:
            raise HTTPException(status_code=400, detail=f"the level is not valid: {error}") from None
        if wanted.seconds is not None and not 0 < wanted.seconds <= 86400:
            raise HTTPException(status_code=400, detail="seconds must be more than 0 and at most 86400")
        for timer in back:
            timer.cancel()
        back.clear()
        logs.set_level(wanted.level)
        until = None
        if wanted.seconds is not None:
            back.append(asyncio.get_running_loop().call_later(wanted.seconds, restore))
            until = datetime.now(UTC) + timedelta(seconds=wanted.seconds)
        audit(request, "change of the log level", Filter(), wanted.level)
        return LevelSet(wanted.level, until)

    return [reload, log_level]

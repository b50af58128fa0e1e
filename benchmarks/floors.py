"""What the gateway is held against: an empty Litestar handler, and the receiver that one would write by hand."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from typing import Annotated, Any


def litestar_empty() -> Any:
    """Reads the body, returns `{}`; nothing else."""
    from litestar import Litestar, Request, post

    @post("/webio", status_code=200)
    async def webio(request: Request[Any, Any, Any]) -> dict[str, str]:
        await request.body()
        return {}

    return Litestar([webio], openapi_config=None)


def message_model() -> Any:
    """The documented body as a pydantic model."""
    from pydantic import create_model

    names = ("type", "conversationId", "communicationActionId", "outboundChannelAddress", "inboundChannelAddress")
    fields: dict[str, Any] = dict.fromkeys((*names, "customerUID", "body", "dateCreated"), (str, ...))
    return create_model("InboundMessage", **fields)


def fastapi_sqlite(path: str, secret: bytes) -> Any:
    """FastAPI, pydantic and PyJWT; one durable SQLite commit per request, in a thread."""
    import jwt
    from fastapi import FastAPI, Header, HTTPException

    app = FastAPI(openapi_url=None)
    database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, body TEXT NOT NULL)")
    lock = asyncio.Lock()

    def insert(text: str) -> int:
        return int(database.execute("INSERT INTO events (body) VALUES (?)", (text,)).lastrowid or 0)

    async def webio(message: Any, x_webio_token: str) -> dict[str, int]:
        try:
            jwt.decode(x_webio_token, secret, algorithms=["HS256"])
        except jwt.InvalidTokenError:
            raise HTTPException(401) from None
        async with lock:
            return {"id": await asyncio.to_thread(insert, message.model_dump_json())}

    # resolved by hand: this module's annotations are texts, and the model is local
    webio.__annotations__.update(message=message_model(), x_webio_token=Annotated[str, Header()])
    app.post("/webio")(webio)
    return app


def serve(app: Any, port: int) -> None:
    """On uvicorn with httptools and uvloop, which the gateway uses too, without an access log."""
    import uvicorn

    uvicorn.run(app, port=port, access_log=False, log_level="warning")


if __name__ == "__main__":
    kind, port, *rest = sys.argv[1:]
    made = litestar_empty() if kind == "litestar" else fastapi_sqlite(rest[0], rest[1].encode())
    serve(made, int(port))

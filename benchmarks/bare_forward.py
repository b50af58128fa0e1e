"""`forward` beside a bare httpx client. As a program: the server that both send to."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from bare import SERVER_CORE, Subject, at_the_same_time


@contextmanager
def subject(folder: Path) -> Iterator[Subject]:
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, __file__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/in"
        secret = folder / "forward.secret"
        secret.write_text("whsec_" + base64.b64encode(bytes(32)).decode())

        async def bare(records: Sequence[bytes], concurrency: int) -> None:
            async with httpx.AsyncClient(trust_env=False) as client:
                headers = {"content-type": "application/json"}

                async def send(record: bytes) -> None:
                    (await client.post(url, content=record, headers=headers)).raise_for_status()

                await at_the_same_time(records, concurrency, send)

        table = f'url = "{url}"\nsecret = {{ file = "{secret}" }}\nallow_networks = ["127.0.0.0/8"]\n'
        try:
            yield Subject(table, bare)
        finally:
            server.terminate()


class Taker(asyncio.Protocol):
    """Answers each POST with 200, as soon as its body is there."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._waiting = transport, b""

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        while (end := self._waiting.find(b"\r\n\r\n")) >= 0:
            head = self._waiting[:end].lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(self._waiting) < end + 4 + length:
                return
            self._waiting = self._waiting[end + 4 + length :]
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Taker, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

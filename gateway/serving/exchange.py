"""A request and its answer on a connection, in one write."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle


class Exchange(RequestResponseCycle):
    """A request and its answer. An answer that is complete at once, as all of ours are, goes out in one write."""

    _start: Any = None

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        start, self._start = self._start, None
        if start is None or not self._sent_whole(start["status"], start["headers"], message):
            if start is not None:
                await super().send(start)
            await super().send(message)

    def _sent_whole(self, status: int, headers: Any, message: Any) -> bool:
        """Whether the answer could be sent in one write. What has no exact length, or a line break in a header, is
        left to the base class, which refuses the latter."""
        body, lines, length = message.get("body", b""), [STATUS_LINE[status]], b""
        if message.get("more_body") or self.disconnected or self.flow.write_paused or self.scope["method"] == "HEAD":
            return False
        for name, value in (*self.default_headers, *headers):
            lines += name, b": ", value, b"\r\n"
            if name == b"content-length":
                length = value
            elif name == b"connection":
                self.keep_alive = False
        if not self.keep_alive and b"connection" not in lines:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        head = b"".join(lines)
        if (
            length != b"%d" % len(body)
            or head.count(b"\n") != head.count(b"\r\n")
            or head.index(b"\r\n\r\n") + 4 != len(head)
        ):
            return False
        self.transport.write(head + body)
        self.response_started = self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
        return True

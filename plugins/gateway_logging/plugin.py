"""The plugin: a line per event, collected in memory and written at each checkpoint."""

from __future__ import annotations

import difflib
import os
import threading
from typing import Annotated, Literal

import msgspec

from gateway import Context, Event, hookimpl
from gateway_logging.encoding import bare, quoted
from gateway_logging.fields import EXTRA, FIELDS, reader
from gateway_logging.output import Output, Stream

DEFAULT_FIELDS = (
    "received_at",
    "organisation",
    "hook",
    "id",
    "conversation_id",
    "status_code",
    "outcome",
    "readable",
    "conflict",
    "redelivered",
)
_MOST_IN_MEMORY = 1024 * 1024


class LogError(Exception):
    """The lines cannot be written; the message is a sentence for the operator."""

    loggable = True


class _Batch:
    """The lines since the last checkpoint."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.size = 0
        self.failed = False

    def take(self) -> bytes:
        lines, self.lines, self.size = self.lines, [], 0
        return "".join(lines).encode()


class LoggingPlugin:
    """One structured line per event, personal data masked unless the config says otherwise."""

    class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """`fields` are the fields of a line, in order; those in `show` are in it, too, and not masked."""

        format: Annotated[Literal["json", "console"], msgspec.Meta(description="How a line is written.")] = "json"
        output: Annotated[Output, msgspec.Meta(description="stdout, stderr, or the path of a file.")] = Output(
            "stdout", None
        )
        fields: Annotated[tuple[str, ...], msgspec.Meta(description="The fields of a line, in this order.")] = (
            DEFAULT_FIELDS
        )
        show: Annotated[tuple[str, ...], msgspec.Meta(description="Fields that are in a line unmasked.")] = ()

        def __post_init__(self) -> None:
            if not self.fields and not self.show:
                raise ValueError("fields: is empty, as show is; name at least one field")
            named = [
                (f"{key}[{index}]", name) for key in ("fields", "show") for index, name in enumerate(getattr(self, key))
            ]
            for where, name in named:
                if name not in FIELDS and not (name.startswith(EXTRA) and name != EXTRA):
                    close = difflib.get_close_matches(name, FIELDS, 1)
                    hint = f"did you mean {close[0]!r}" if close else f"known are {', '.join(FIELDS)}"
                    raise ValueError(
                        f"{where}: unknown field {name!r}; {hint}, and 'extra.NAME' for other fields of a body"
                    )

    def __init__(self, config: Config) -> None:
        self._config = config
        as_json = config.format == "json"
        encode = quoted if as_json else bare
        before, after = (",", ":") if as_json else (" ", "=")
        self._columns = [
            (f"{before}{encode(name)}{after}", reader(name, name in config.show, encode))
            for name in dict.fromkeys((*config.fields, *config.show))
        ]
        self._frame = "{%s}\n" if as_json else "%s\n"
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._batch = _Batch()
        self._stream: Stream | None = None

    @hookimpl
    def check(self) -> None:
        path = self._config.output.path
        if path is None:
            return
        if path.is_dir():
            raise LogError(f"output: {path} is a directory")
        there = next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))
        if there != path and not there.is_dir():
            raise LogError(f"output: {path} cannot be made: {there} is not a directory")
        if not os.access(there, os.W_OK):
            raise LogError(f"output: {path}: {there} is not writable for this user")

    @hookimpl
    def startup(self, context: Context) -> None:
        self._batch = _Batch()
        try:
            self._stream = Stream(self._config.output)
        except OSError as error:
            raise LogError(f"output {self._config.output} cannot be opened: {error.strerror}") from error

    @hookimpl
    def shutdown(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None and self._writing.acquire(timeout=1):  # a write that hangs keeps its descriptor
            stream.close()
            self._writing.release()

    @hookimpl
    def on_event(self, event: Event) -> None:
        parts = []
        for name, read in self._columns:
            text = read(event)
            if text is not None:
                parts.append(name)
                parts.append(text)
        line = self._frame % "".join(parts)[1:]
        with self._lock:
            batch = self._batch
            batch.lines.append(line)
            batch.size += len(line)
            full = batch.size > _MOST_IN_MEMORY
        if full:
            self._write(batch)

    @hookimpl
    def checkpoint(self) -> None:
        with self._lock:
            batch, self._batch = self._batch, _Batch()
        if batch.failed:
            raise LogError("lines since the last checkpoint could not be written")
        self._write(batch)

    def _write(self, batch: _Batch) -> None:
        with self._writing:
            with self._lock:
                data = batch.take()
            if self._stream is None:
                raise LogError("the log is not open")
            if not data:
                return
            try:
                self._stream.write(data)
            except OSError as error:
                batch.failed = True
                raise LogError(f"lines could not be written to {self._config.output}: {error.strerror}") from error

"""The bundled plugin `logging`: one structured line per event, and nothing personal in it unless asked for."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from gateway_logging import LoggingPlugin
from gateway_logging.masking import mask_digits
from gateway_logging.output import Output
from gateway_logging.plugin import LogError
from hypothesis import given
from hypothesis import strategies as st

from gateway import Context, DeliveryReport, Event, InboundMessage, Payment

NOW = datetime(2026, 11, 22, 15, 54, 24, 123456, tzinfo=UTC)
HEAD = {"received_at": "2026-11-22T15:54:24.123456Z", "organisation": "acme"}


def event(hook: str, payload: Any = None, *, raw: bytes = b"{}", **fields: Any) -> Event:
    fields = {"id": "01935498-0000-7000-8000-000000000001", "received_at": NOW, "organisation": "acme", **fields}
    return Event(hook=hook, payload=payload, raw=raw, **fields)


def message(body: str = "No I don't", **fields: Any) -> Event:
    payload = {
        "type": "inboundMessage",
        "conversation_id": "97847",
        "communication_action_id": "220859",
        "outbound_channel_address": "447717472695",
        "inbound_channel_address": "WhatsApp QA Test",
        "customer_uid": "CUST-004711",
        "date_created": NOW,
        "body": body,
        **fields,
    }
    about = {"conversation_id": payload["conversation_id"], "customer_uid": payload["customer_uid"]}
    return event("inbound-message", InboundMessage(**payload), **about)


def report(status_code: str = "0", **fields: Any) -> Event:
    payload = DeliveryReport(
        conversation_id="97847",
        communication_action_id="220860",
        outbound_channel_address="447717472695",
        inbound_channel_address="WhatsApp QA Test",
        date_created=NOW,
        status_code=status_code,
    )
    return event("delivery-report", payload, conversation_id="97847", **fields)


def payment(**extra: Any) -> Event:
    return event("payment", Payment(extra=extra))


def plugin_of(output: str | Path, **config: Any) -> LoggingPlugin:
    place = Output.from_config(str(output), Path("/nowhere"))
    return LoggingPlugin(LoggingPlugin.Config(output=place, **config))


@contextmanager
def running(output: str | Path, **config: Any) -> Iterator[LoggingPlugin]:
    plugin = plugin_of(output, **config)
    log = logging.getLogger("gateway.plugins.logging")
    plugin.startup(Context(name="logging", log=log, directory=Path("/nowhere"), organisations=("acme",)))
    try:
        yield plugin
    finally:
        plugin.shutdown()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "events.log"


def text(log: Path, *events: Event, **config: Any) -> str:
    """What is logged of these events."""
    log.unlink(missing_ok=True)
    with running(log, **config) as plugin:
        for one in events:
            plugin.on_event(one)
        plugin.checkpoint()
    return log.read_text()


def line(log: Path, one: Event, **config: Any) -> dict[str, Any]:
    """The one JSON line of an event."""
    written = text(log, one, **config)
    assert written.count("\n") == 1
    found: dict[str, Any] = json.loads(written)
    return found


def test_a_json_line_says_what_came_when_and_for_whom(log: Path) -> None:
    """The default fields, in a fixed order, in compact JSON."""
    assert text(log, message()) == (
        '{"received_at":"2026-11-22T15:54:24.123456Z","organisation":"acme","hook":"inbound-message",'
        '"id":"01935498-0000-7000-8000-000000000001","conversation_id":"97847"}\n'
    )


def test_a_console_line_says_the_same_for_people(log: Path) -> None:
    """`name=value`, quoted only where a value is not one plain word."""
    assert text(log, report("6"), format="console") == (
        "received_at=2026-11-22T15:54:24.123456Z organisation=acme hook=delivery-report "
        "id=01935498-0000-7000-8000-000000000001 conversation_id=97847 status_code=6 "
        'outcome="invalid message structure"\n'
    )


def test_a_delivery_report_tells_code_and_outcome(log: Path) -> None:
    """The code as received; the outcome's name where Webio documents one."""
    assert line(log, report("10"), fields=("status_code", "outcome")) == {"status_code": "10", "outcome": "blocklisted"}
    assert line(log, report("4"), fields=("status_code", "outcome")) == {"status_code": "4"}


def test_flags_stand_in_a_line_only_where_they_are_noteworthy(log: Path) -> None:
    """A readable, new event without a conflict has none of them."""
    odd = event("payment", readable=False, conflict=True, redelivered=True, replayed=True)
    flags = ("readable", "conflict", "redelivered", "replayed")
    assert line(log, odd, fields=flags) == {"readable": False, "conflict": True, "redelivered": True, "replayed": True}
    assert text(log, message(), fields=("hook", *flags)) == '{"hook":"inbound-message"}\n'
    assert line(log, odd).keys() >= {"readable", "conflict", "redelivered"}


def test_fields_are_chosen_and_ordered_by_the_config(log: Path) -> None:
    """Nothing else stands in a line, and what an event does not have is left out."""
    fields = ("hook", "attempt", "size", "communication_action_id", "date_created", "type", "id")
    assert list(line(log, message(), fields=fields).items()) == [
        ("hook", "inbound-message"),
        ("attempt", 1),
        ("size", 2),
        ("communication_action_id", "220859"),
        ("date_created", "2026-11-22T15:54:24.123+00:00"),
        ("type", "inboundMessage"),
        ("id", "01935498-0000-7000-8000-000000000001"),
    ]
    assert line(log, payment(), fields=fields).keys() == {"hook", "attempt", "size", "id"}


PERSONAL = ("outbound_channel_address", "inbound_channel_address", "customer_uid", "body")


def test_personal_data_is_masked(log: Path) -> None:
    """Of a phone number the last digits, of a message its length, of a customer's id its end; of a name nothing."""
    assert line(log, message(), fields=PERSONAL) == {
        "outbound_channel_address": "***695",
        "inbound_channel_address": "***",
        "customer_uid": "***711",
        "body": "10 characters",
    }


def test_show_unmasks_and_adds_what_it_names(log: Path) -> None:
    """One by one: the others stay masked, and what only `show` names stands in the line too."""
    assert line(log, message(), fields=PERSONAL[:3], show=("body", "customer_uid")) == {
        "outbound_channel_address": "***695",
        "inbound_channel_address": "***",
        "customer_uid": "CUST-004711",
        "body": "No I don't",
    }


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("+44 7717 472 695", "***695"),
        ("whatsapp:+447717472695", "***695"),
        ("(0771) 747-26-95", "***695"),
        ("087 - 123 - 4567", "***567"),
        ("(087) - 1234567", "***567"),
        ("087  /  1234567", "***567"),
        ("087\u00a0\u2013 123\t[4567]", "***567"),
        ("08712345 - 6 - 7", "***567"),
        ("0871234     5     6     7", "***567"),
        ("٠١٢٣٤٥٦٧٨٩", "***٧٨٩"),
        ("60123", "***"),
        ("jane.doe@example.com", "***"),
        ("", "***"),
    ],
)
def test_no_address_is_told_whole(log: Path, address: str, masked: str) -> None:
    """Phone numbers in any spelling, short codes, and addresses that are no numbers."""
    one = message(outbound_channel_address=address)
    assert line(log, one, fields=("outbound_channel_address",)) == {"outbound_channel_address": masked}


def test_a_number_is_masked_wherever_it_stands_and_nothing_around_it(log: Path) -> None:
    """As people write numbers; what is too far apart, too short or no digits stays."""
    note = "call (087) - 1234567 or 087 - 123 - 4568, 2 of 3, 12.50 EUR, 12 345 and then 6789"
    told = "call (***567 or ***568, 2 of 3, 12.50 EUR, 12 345 and then 6789"
    assert line(log, payment(note=note), fields=("extra.note",)) == {"extra.note": told}
    one = message(conversation_id="087--1234567")
    assert line(log, one, fields=("conversation_id",)) == {"conversation_id": "***567"}


def test_no_text_takes_long_to_mask() -> None:
    """Digits and separators without end, in any order that nearly makes a number."""
    for text in ("1     " * 200_000, "1" + " " * 1_000_000, "123456      " * 100_000, "+" * 1_000_000, "1" * 1_000_000):
        began = time.thread_time()
        mask_digits(text)
        assert time.thread_time() - began < 2


def test_a_short_customer_id_is_not_told_by_its_end(log: Path) -> None:
    """Three digits of six would be half of it."""
    assert line(log, message(customer_uid="123456"), fields=("customer_uid",)) == {"customer_uid": "***"}


def test_an_id_that_is_a_phone_number_is_masked(log: Path) -> None:
    """Webio's ids are told, a number that reaches a person is not, whatever field it hides in."""
    for identifier, told in (
        ("123456789",) * 2,
        ("1795367367605671",) * 2,
        ("447717472695", "***695"),
        ("+447717472695", "***695"),
    ):
        one = message(conversation_id=identifier, communication_action_id=identifier)
        fields = ("conversation_id", "communication_action_id")
        assert set(line(log, one, fields=fields).values()) == {told}
        assert set(line(log, one, fields=fields, show=fields).values()) == {identifier}
    identifier = "4b2e1c9a-0d3f-4e51-9c77-123456789012"
    assert line(log, message(conversation_id=identifier))["conversation_id"] == identifier


def test_other_fields_of_a_body_stand_in_a_line_only_when_listed(log: Path) -> None:
    """Webio does not document the body of a payment."""
    one = payment(amount=Decimal("12.50"), card="4929 1234 5678 9012", note="call 07717472695", ok=True, lines=[1, "x"])
    assert line(log, one).keys() == {"received_at", "organisation", "hook", "id"}
    fields = ("extra.amount", "extra.card", "extra.note", "extra.ok", "extra.lines", "extra.absent")
    assert line(log, one, fields=fields) == {
        "extra.amount": "12.50",
        "extra.card": "***012",
        "extra.note": "call ***695",
        "extra.ok": "true",
        "extra.lines": '[1,"x"]',
    }
    assert line(log, one, fields=("hook",), show=("extra.note",)) == {
        "hook": "payment",
        "extra.note": "call 07717472695",
    }


def test_numbers_are_masked_like_texts(log: Path) -> None:
    """A phone number that came without quotes is still one."""
    one = payment(mobile=447717472695, nested={"mobile": 447717472695})
    assert line(log, one, fields=("extra.mobile", "extra.nested")) == {
        "extra.mobile": "***695",
        "extra.nested": '{"mobile":***695}',
    }


def test_an_unreadable_or_unknown_event_is_read_from_its_body(log: Path) -> None:
    """Its fields, under the same names and masks, and stricter: nothing is known of what is in them."""
    raw = (
        b'{"type": "call 447717472695", "outboundChannelAddress": 447717472695, "body": {"text": "secret"},'
        b' "communicationActionId": "07717 472 695", "amount": 12.5, "statusCode": null}'
    )
    fields = ("type", "outbound_channel_address", "body", "communication_action_id", "status_code", "outcome")
    assert line(log, event("unknown", raw=raw), fields=(*fields, "extra.amount")) == {
        "type": "call ***695",
        "outbound_channel_address": "***695",
        "body": "17 characters",
        "communication_action_id": "***695",
        "extra.amount": "12.5",
    }
    assert line(log, event("unknown", raw=raw), fields=("hook",), show=("body",))["body"] == '{"text":"secret"}'


def test_long_values_are_cut(log: Path) -> None:
    """A body cannot make lines of any length; its own length is still told right."""
    one = message("x" * 100_000)
    assert line(log, one, fields=("body",)) == {"body": "100000 characters"}
    assert line(log, one, show=("body",))["body"] == "x" * 1000 + "…"


HOSTILE = [
    'x"}\n{"organisation":"other"}',
    "\r\nfake line",
    "\x1b[2J\x1b]0;title\x07",
    "\x9b31m",
    "\x85 \u2028 \u2029",
    "\u202egnp.exe",
    "\x00\x7f",
    "tab\there \\ back",
    'quote " = sign',
]


@pytest.mark.parametrize("format", ["json", "console"])
@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_text_of_a_body_can_end_a_line_or_steer_a_terminal(log: Path, hostile: str, format: str) -> None:
    """Line breaks of every kind, escape sequences, and marks that turn text around are escaped."""
    one = message(hostile, conversation_id=hostile)
    written = text(log, one, message(), format=format, fields=("conversation_id",), show=("body", "hook"))
    lines = written.split("\n")
    assert len(lines) == 3
    assert all(each.isprintable() for each in lines)
    if format == "json":
        assert json.loads(lines[0]) == {"conversation_id": hostile, "body": hostile, "hook": "inbound-message"}
    else:
        assert lines[0].endswith(f"{json.dumps(hostile)} hook=inbound-message")


@given(anything=st.text(max_size=1000), name=st.text(min_size=1, max_size=20))
def test_any_text_survives_in_one_printable_line(
    tmp_path_factory: pytest.TempPathFactory, anything: str, name: str
) -> None:
    """Whatever a shown field holds, and whatever it is called, a reader of the line gets it back."""
    log = tmp_path_factory.getbasetemp() / "any.log"
    one = message(anything, extra={name: anything})
    written = text(log, one, fields=("hook",), show=("body", f"extra.{name}"))
    assert written[:-1].isprintable()
    assert json.loads(written) == {"hook": "inbound-message", "body": anything, f"extra.{name}": anything}
    console = text(log, one, format="console", fields=("hook",), show=("body", f"extra.{name}"))
    assert console[:-1].isprintable()


def test_names_of_fields_that_do_not_exist_are_refused() -> None:
    """With a guess at what was meant; other fields of a body are named as such."""
    with pytest.raises(
        ValueError, match=r"^fields\[0\]: unknown field 'organization'; did you mean 'organisation', and 'extra\."
    ):
        LoggingPlugin.Config(fields=("organization",))
    with pytest.raises(
        ValueError, match=r"^show\[0\]: unknown field 'amount'; known are received_at, id, .*'extra.NAME' for"
    ):
        LoggingPlugin.Config(show=("amount",))
    with pytest.raises(ValueError, match=r"^fields\[0\]: unknown field 'extra\.'"):
        LoggingPlugin.Config(fields=("extra.",))
    with pytest.raises(ValueError, match=r"^fields: is empty, as show is; name at least one field$"):
        LoggingPlugin.Config(fields=())


def test_output_is_a_stream_or_a_path_relative_to_the_config() -> None:
    """Anything else is refused with a sentence."""
    assert Output.from_config("stdout", Path("/etc/gateway")).path is None
    assert Output.from_config("logs/events.log", Path("/etc/gateway")).path == Path("/etc/gateway/logs/events.log")
    for wrong in ("", 1, ["stdout"]):
        with pytest.raises(ValueError, match=r'^expected "stdout", "stderr" or a path, found '):
            Output.from_config(wrong, Path("/etc/gateway"))


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_lines_go_to_the_standard_streams(capfd: pytest.CaptureFixture[str], stream: str) -> None:
    """The default is stdout; a plugin that has stopped leaves the stream open for others."""
    with running(stream, fields=("hook",)) as plugin:
        plugin.on_event(message())
        plugin.checkpoint()
    os.write(1 if stream == "stdout" else 2, b"still open\n")
    assert (
        getattr(capfd.readouterr(), "out" if stream == "stdout" else "err")
        == '{"hook":"inbound-message"}\nstill open\n'
    )
    assert str(LoggingPlugin.Config().output) == "stdout"


def test_lines_are_there_after_the_checkpoint_in_the_order_of_events(log: Path) -> None:
    """Nothing waits for a buffer to fill."""
    with running(log, fields=("conversation_id",), format="console") as plugin:
        for number in range(3):
            plugin.on_event(message(conversation_id=str(number)))
        plugin.checkpoint()
        assert log.read_text() == "conversation_id=0\nconversation_id=1\nconversation_id=2\n"
        plugin.checkpoint()
        assert log.read_text().count("\n") == 3


def test_a_log_file_is_private_and_appended_to(tmp_path: Path) -> None:
    """Folders that are missing are made; what is in a file stays."""
    log = tmp_path / "logs" / "events.log"
    for _ in range(2):
        with running(log, fields=("hook",)) as plugin:
            plugin.on_event(message())
            plugin.checkpoint()
    assert log.read_text() == '{"hook":"inbound-message"}\n' * 2
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700


def test_a_log_file_that_was_rotated_is_made_again(log: Path) -> None:
    """`logrotate` needs no signal and no restart."""
    with running(log, fields=("conversation_id",), format="console") as plugin:
        for number in range(3):
            plugin.on_event(message(conversation_id=str(number)))
            plugin.checkpoint()
            log.rename(log.with_suffix(f".{number}"))
    assert [log.with_suffix(f".{number}").read_text() for number in range(3)] == [
        f"conversation_id={number}\n" for number in range(3)
    ]


def test_a_large_batch_does_not_gather_in_memory(log: Path) -> None:
    """Lines are written before the checkpoint once there is a megabyte of them."""
    with running(log, show=("body",)) as plugin:
        for _ in range(2000):
            plugin.on_event(message("x" * 1000))
        assert log.stat().st_size > 2**20
        plugin.checkpoint()
    assert log.read_text().count("\n") == 2000


def test_four_threads_at_once_write_whole_lines(log: Path) -> None:
    """Lanes call the same instance in parallel."""
    with running(log, fields=("conversation_id",), format="console") as plugin:

        def lane(first: int) -> None:
            for number in range(first, first + 1000):
                plugin.on_event(message(conversation_id=str(number)))

        lanes = [threading.Thread(target=lane, args=(1000 * n,)) for n in range(4)]
        for thread in lanes:
            thread.start()
        for thread in lanes:
            thread.join()
        plugin.checkpoint()
    numbers = [int(each.removeprefix("conversation_id=")) for each in log.read_text().splitlines()]
    assert sorted(numbers) == list(range(4000))
    assert all(sorted(lane) == lane for lane in ([n for n in numbers if n // 1000 == k] for k in range(4)))


def test_a_full_disk_is_an_error_that_the_gateway_can_retry() -> None:
    """The checkpoint fails, in a sentence without a word of the event."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with running("/dev/full") as plugin:
        plugin.on_event(message())
        with pytest.raises(LogError, match=r"^lines could not be written to /dev/full: No space left on device$"):
            plugin.checkpoint()


def test_a_broken_pipe_is_an_error_and_the_next_write_begins_a_new_line(
    monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    """A batch that failed half-way comes again; its torn line does not swallow the first one of these."""
    write = os.write

    def torn(fd: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", broken)
        return write(fd, bytes(data)[:10])

    def broken(fd: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", write)
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with running(log, fields=("hook",)) as plugin:
        plugin.on_event(message())
        monkeypatch.setattr(os, "write", torn)
        with pytest.raises(LogError, match=r"^lines could not be written to .*events\.log: Broken pipe$"):
            plugin.checkpoint()
        plugin.on_event(message())
        plugin.checkpoint()
    assert log.read_text() == '{"hook":"i\n{"hook":"inbound-message"}\n'


def test_a_failure_before_the_checkpoint_fails_the_checkpoint(monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    """Lines of events that the gateway takes for delivered are not lost in silence."""
    write = os.write

    def full(fd: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", write)
        raise OSError(errno.ENOSPC, "No space left on device")

    with running(log, show=("body",)) as plugin:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(LogError, match="No space left on device"):
            for _ in range(2000):
                plugin.on_event(message("x" * 1000))
        with pytest.raises(LogError, match=r"^lines since the last checkpoint could not be written$"):
            plugin.checkpoint()
        plugin.on_event(message())
        plugin.checkpoint()
    assert log.read_text().count("\n") == 1


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import test_logging as kit
try:
    with kit.running("stdout", fields=("hook",)) as plugin:
        sys.stdin.readline()
        for _ in range(int(sys.argv[2])):
            plugin.on_event(kit.message())
        plugin.checkpoint()
except kit.LogError as error:
    print(error, file=sys.stderr)
"""


def script(lines: int, **streams: Any) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(lines)]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stderr=subprocess.PIPE, **streams)


def test_a_reader_that_went_away_is_no_crash() -> None:
    """`gateway run | head` leaves a closed pipe behind: an error, and the process lives."""
    with script(1, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, errors = process.communicate(b"\n")
    assert errors == b"lines could not be written to stdout: Broken pipe\n"
    assert process.returncode == 0


def test_a_process_without_stdout_does_not_write_into_some_other_file() -> None:
    """Where stdout was closed from the start, its number belongs to whatever was opened first."""
    with script(1, preexec_fn=lambda: os.close(1)) as process:
        _, errors = process.communicate(b"\n")
    assert errors == b"output stdout cannot be opened: stdout is closed\n"


def test_a_pipe_that_does_not_block_gets_every_line() -> None:
    """Another process may have set it so; lines wait for room then, and are not torn."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with script(20_000, stdout=theirs) as process, os.fdopen(ours, "rb") as reader:
        os.close(theirs)
        assert process.stdin is not None
        process.stdin.close()
        lines = reader.read()
    assert lines == b'{"hook":"inbound-message"}\n' * 20_000


def check(output: str | Path) -> None:
    plugin_of(output).check()


def test_check_accepts_what_can_be_made_and_makes_nothing(tmp_path: Path) -> None:
    """`gateway check` changes nothing."""
    check("stdout")
    check(tmp_path / "logs" / "events.log")
    assert list(tmp_path.iterdir()) == []


def test_check_names_what_is_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of that name, a file where a folder should be, a folder that is not writable."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LogError, match=f"^output: {tmp_path} is a directory$"):
        check(tmp_path)
    with pytest.raises(
        LogError, match=f"^output: {tmp_path}/file/x cannot be made: {tmp_path}/file is not a directory$"
    ):
        check(tmp_path / "file" / "x")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(LogError, match=f"^output: {tmp_path}/x: {tmp_path} is not writable for this user$"):
        check(tmp_path / "x")


def test_a_log_that_cannot_be_opened_does_not_start(tmp_path: Path) -> None:
    """The reason is a sentence."""
    with pytest.raises(LogError, match=f"^output {tmp_path} cannot be opened: Is a directory$"), running(tmp_path):
        pass


def test_a_log_that_has_stopped_takes_no_events_for_granted(log: Path) -> None:
    """A checkpoint after `shutdown` fails, so that the cursor does not move."""
    with running(log) as plugin:
        pass
    plugin.on_event(message())
    with pytest.raises(LogError, match=r"^the log is not open$"):
        plugin.checkpoint()

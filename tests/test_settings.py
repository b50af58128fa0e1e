"""Types of config fields, and a table read into a plugin's `Config` with every fault at once."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
import tomli

from gateway import Duration, Secret, Size
from gateway.config.convert import Problem, TableReader, dotted
from gateway.config.field_types import Network, Zone, path_from, show

FOLDER = Path("/etc/gateway")
SECRET = b"0123456789abcdef0123456789abcdef"


def error(call: Callable[..., object], *args: Any) -> str:
    with pytest.raises(ValueError, match=r"\w") as caught:
        call(*args)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("24h", 86400),
        ("30d", 2_592_000),
        ("250ms", 0.25),
        ("1h30m", 5400),
        ("1h 30m 5s", 5405),
        ("1.5s", 1.5),
        (" 10 s ", 10),
        ("0s", 0),
        ("36500d", 36500 * 86400),
    ],
)
def test_a_duration_reads_like_words(text: str, seconds: float) -> None:
    """As a number of seconds."""
    duration = Duration.from_config(text, FOLDER)
    assert duration == seconds
    assert type(duration) is Duration


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (30, "30 (a number)"),
        (1.5, "1.5 (a number)"),
        (True, "true (a boolean)"),
        ("30", '"30"'),
        ("", '""'),
        ("s", '"s"'),
        ("-5s", '"-5s"'),
        ("+5s", '"+5s"'),
        ("5 sec", '"5 sec"'),
        ("5S", '"5S"'),
        ("1e3s", '"1e3s"'),
        ("1,5s", '"1,5s"'),
        ("5s!", '"5s!"'),
        ("1e9d", '"1e9d"'),
        ("infs", '"infs"'),
        ("٣s", '"٣s"'),
        ("1..5s", '"1..5s"'),
        ("1" * 100 + "s", "a string that may be a secret"),
        ([], "an array"),
        ({"s": 5}, "a table"),
        (date(2026, 1, 1), "2026-01-01 (a date)"),
        (float("inf"), "inf (a number)"),
        (10**5000, "a very large number"),
    ],
    ids=lambda value: str(value)[:20] if not isinstance(value, int) else "number",
)
def test_what_is_no_duration_is_named(value: Any, found: str) -> None:
    """With examples of one."""
    message = f'expected a duration such as "30s", "5m" or "24h", found {found}'
    assert error(Duration.from_config, value, FOLDER) == message


@pytest.mark.parametrize("text", ["36501d", "99999999999d", "876001h"])
def test_a_duration_has_an_end(text: str) -> None:
    """Dates can still be shifted by the longest one."""
    assert error(Duration.from_config, text, FOLDER) == f'expected a duration of at most "36500d", found "{text}"'


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1 MiB", 2**20),
        ("512 KiB", 2**19),
        ("10 GiB", 10 * 2**30),
        ("1TiB", 2**40),
        ("1024 TiB", 2**50),
        ("1 kB", 1000),
        ("1MB", 10**6),
        ("2 GB", 2 * 10**9),
        ("1 TB", 10**12),
        ("100 B", 100),
        ("1.5 KiB", 1536),
        (" 0 B ", 0),
    ],
)
def test_a_size_reads_like_words(text: str, size: int) -> None:
    """As a number of bytes."""
    found = Size.from_config(text, FOLDER)
    assert found == size
    assert type(found) is Size


@pytest.mark.parametrize(
    "value", [5, 1.5, False, "5", "", "MiB", "-1 MiB", "1 mib", "1 KB", "1 Mi", "1 PiB", "1 MiB 1 KiB", [], {}]
)
def test_what_is_no_size_is_named(value: Any) -> None:
    """With examples of one."""
    assert error(Size.from_config, value, FOLDER) == f'expected a size such as "1 MiB" or "10 GiB", found {show(value)}'


@pytest.mark.parametrize("text", ["1025 TiB", "999999999999999 TiB", "2000000000 MiB"])
def test_a_size_has_an_end(text: str) -> None:
    """A pebibyte."""
    assert error(Size.from_config, text, FOLDER) == f'expected a size of at most "1024 TiB", found "{text}"'


def test_a_secret_comes_from_a_file(tmp_path: Path) -> None:
    """Relative to the config file's folder; line breaks at its end are not part of it."""
    (tmp_path / "a").write_bytes(SECRET + b"\r\n\n")
    secret = Secret.from_config({"file": "a"}, tmp_path)
    assert (secret.value, secret.source) == (SECRET, "file a")
    absolute = Secret.from_config({"file": str(tmp_path / "a")}, Path("/nowhere"))
    assert absolute.value == SECRET


def test_a_secret_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is."""
    monkeypatch.setenv("A_SECRET", SECRET.decode() + "\n")
    secret = Secret.from_config({"env": "A_SECRET"}, FOLDER)
    assert (secret.value, secret.source) == (SECRET + b"\n", "environment variable A_SECRET")


def test_a_secret_may_be_any_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But it is not text then, and says so without showing itself."""
    (tmp_path / "a").write_bytes(b"\xff\x00" * 20)
    monkeypatch.setenv("A_SECRET", "\udcff" * 40)
    for value, source in (({"file": "a"}, "file a"), ({"env": "A_SECRET"}, "environment variable A_SECRET")):
        secret = Secret.from_config(value, tmp_path)
        assert secret.value[0] == 255
        assert error(secret.text) == f"the secret in {source} is not UTF-8 text"
    assert Secret("pä".encode(), "x").text() == "pä"


def test_a_secret_never_shows(tmp_path: Path) -> None:
    """Neither alone nor inside of a struct, nor in a format."""

    class Config(msgspec.Struct, frozen=True):
        secret: Secret

    secret = Secret(SECRET, "file a")
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r}", repr(Config(secret)), repr([secret])):
        assert SECRET.decode() not in shown
        assert "<secret from file a>" in shown
    assert secret == Secret(SECRET, "file b") != Secret(b"other", "file a")
    assert len({secret, Secret(SECRET, "file b")}) == 1


def test_a_secret_survives_the_way_to_a_worker_process() -> None:
    """The server hands its settings over by pickle."""
    copy = pickle.loads(pickle.dumps(Secret(SECRET, "file a")))
    assert (copy.value, copy.source) == (SECRET, "file a")


@pytest.mark.parametrize(
    "value",
    [
        5,
        True,
        [],
        {},
        {"file": "a", "env": "B"},
        {"value": "x"},
        {"env": 5},
        {"env": ["A"]},
        {"File": "a"},
        date(2026, 1, 1),
    ],
    ids=str,
)
def test_a_secret_is_written_in_one_of_two_ways(value: Any) -> None:
    """Anything else is told which."""
    assert error(Secret.from_config, value, FOLDER) == 'expected { file = "path" } or { env = "NAME" }'


def test_a_literal_secret_is_refused_and_not_repeated() -> None:
    """In the config file it would be in backups and in version control."""
    message = 'a secret must not be in the config file; write { file = "path" } or { env = "NAME" }'
    assert error(Secret.from_config, SECRET.decode(), FOLDER) == message


def test_a_secret_file_must_hold_one(tmp_path: Path) -> None:
    """Missing, empty, only a line break, a folder, or larger than any secret."""
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "line").write_bytes(b"\n")
    (tmp_path / "large").write_bytes(b"x" * 70_000)
    for name, message in {
        "missing.secret": "does not exist",
        "etc/missing": "does not exist",
        "empty": "is empty",
        "line": "is empty",
        ".": "cannot be read: Is a directory",
        "empty/more": "cannot be read: Not a directory",
        "large": "has more than 65536 bytes",
    }.items():
        assert error(Secret.from_config, {"file": name}, tmp_path) == f"the secret file {tmp_path / name} {message}"
    assert error(Secret.from_config, {"file": "x" * 300}, tmp_path).endswith("cannot be read: File name too long")
    assert error(Secret.from_config, {"file": ""}, tmp_path) == 'expected a path, found ""'
    assert error(Secret.from_config, {"file": 5}, tmp_path) == "expected a path, found 5 (a number)"
    assert error(Secret.from_config, {"file": "a\0b"}, tmp_path) == (
        "expected a path, found a string with control characters"
    )


PASTED = [
    "cAnArY-0123456789-cAnArY-0123456789-cAnArY",  # token_urlsafe
    "c4n4ryMDEyMzQ1Njc4OWFiY2RlZg+/ZHNkZnNkZg==",  # base64, with a slash in it
    "/canaryMDEyMzQ1Njc4OWFiY2RlZghZHNkZnNkZg",
    "canary0123456789abcdef0123456789abcdef",  # hex
    "CANARY23456723456723456723456723456723",  # base32
    "0190canary-1111-7222-8333-444455556666",
    "eyCanaryciOiJIUzI1NiJ9.eyJpYXQiOjE3fQ.dBjftJeZ4CVPmB92K27",
    "a canary of a passphrase of thirty-two bytes",
    "canary123",
    "Canary&3!",
    "canary" * 60,
    "canary/" * 60,
    "1-" * 58 + "canary!",  # no pattern takes for ever
]


@pytest.mark.parametrize("pasted", PASTED)
@pytest.mark.parametrize("kind", ["file", "env"])
def test_a_secret_in_place_of_its_path_or_name_is_not_repeated(pasted: str, kind: str, tmp_path: Path) -> None:
    """It is told what to write instead."""
    message = error(Secret.from_config, {kind: pasted}, tmp_path)

    assert "canary" not in message.lower()
    assert "secret" in message or "the name of an environment variable" in message


@pytest.mark.parametrize(
    "path",
    ["var/webio.secret", "webio.secret", "../secrets/webio", "/run/secrets/webio_token", "./Webio.key", "~/.webio/s-1"],
)
def test_a_path_that_leads_nowhere_is_named(path: str, tmp_path: Path) -> None:
    """So that the slip in it can be seen; it stands there as it was looked for."""
    assert error(Secret.from_config, {"file": path}, tmp_path) == f"the secret file {tmp_path / path} does not exist"


def test_an_unread_secret_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    """What is wrong with it is said then; how it is written, at once."""
    secret = Secret.unread({"file": "a.secret"}, tmp_path)
    assert repr(secret) == "<secret from file, not read yet>"
    assert error(lambda: secret.value) == f"the secret file {tmp_path / 'a.secret'} does not exist"
    (tmp_path / "a.secret").write_bytes(SECRET)
    assert secret.value == SECRET
    assert secret == Secret(SECRET, "file b")
    (tmp_path / "a.secret").unlink()
    assert secret.value == SECRET
    assert error(Secret.unread, {"file": ""}, tmp_path) == 'expected a path, found ""'
    assert error(Secret.unread, "x", tmp_path).startswith("a secret must not be in the config file; ")


def test_a_secret_variable_must_hold_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no name of a variable is not shown: it may be the secret itself."""
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("MISSING", raising=False)
    assert error(Secret.from_config, {"env": "EMPTY"}, FOLDER) == "the environment variable EMPTY is empty"
    assert error(Secret.from_config, {"env": "MISSING"}, FOLDER) == "the environment variable MISSING is not set"
    for name in ("", "a b", "c2VjcmV0Cg==", "A=B", "A\0", "7abc"):
        message = "expected the name of an environment variable in { env = ... }"
        assert error(Secret.from_config, {"env": name}, FOLDER) == message


def test_a_network_knows_its_addresses() -> None:
    """A single one, a network, and IPv4 addresses in their IPv6 form."""
    assert "10.1.2.3" in Network.from_config("10.0.0.0/8", FOLDER)
    assert "::ffff:10.1.2.3" in Network.from_config("10.0.0.0/8", FOLDER)
    assert "11.1.2.3" not in Network.from_config("10.0.0.0/8", FOLDER)
    assert "::ffff:11.1.2.3" not in Network.from_config("10.0.0.0/8", FOLDER)
    assert "192.0.2.7" in Network.from_config("192.0.2.7", FOLDER)
    assert "192.0.2.8" not in Network.from_config("192.0.2.7", FOLDER)
    assert "2001:db8::1" in Network.from_config("2001:db8::/32", FOLDER)
    assert "10.1.2.3" not in Network.from_config("::/0", FOLDER)
    assert "" not in Network.from_config("0.0.0.0/0", FOLDER)
    assert "localhost" not in Network.from_config("0.0.0.0/0", FOLDER)
    assert repr(Network.from_config("10.0.0.0/8", FOLDER)) == "10.0.0.0/8"


@pytest.mark.parametrize(
    "value", [5, 2**32, True, 1.5, "", "10.0.0", "10.0.0.0/33", "localhost", "10.0.0.0/8 ", [], {}]
)
def test_what_is_no_network_is_named(value: Any) -> None:
    """Numbers are none, although ipaddress would take them."""
    message = f'expected an address or a network such as "10.0.0.0/8", found {show(value)}'
    assert error(Network.from_config, value, FOLDER) == message


def test_an_address_with_a_mask_is_told_its_network() -> None:
    """A frequent slip."""
    assert error(Network.from_config, "10.1.2.3/8", FOLDER) == (
        'expected a network, found an address in it: "10.1.2.3/8"; write "10.0.0.0/8"'
    )


def test_a_zone_is_an_iana_name() -> None:
    """And is the same one when asked for again, as zones are kept by their name."""
    dublin = Zone.from_config("Europe/Dublin", FOLDER)
    assert dublin.key == "Europe/Dublin"
    assert type(dublin) is Zone
    assert Zone.from_config("Europe/Dublin", FOLDER) is dublin
    assert datetime(2026, 7, 1, tzinfo=dublin).isoformat() == "2026-07-01T00:00:00+01:00"
    assert pickle.loads(pickle.dumps(dublin)).key == "Europe/Dublin"


@pytest.mark.parametrize(
    "value",
    [5, True, "", "Dublin", "Europe", "Europe/", "../../etc/passwd", "/etc/localtime", "UTC\0", "x" * 300, [], {}, 1.5],
)
def test_what_is_no_zone_is_named(value: Any) -> None:
    """Also a folder of zones, and what would lead out of them."""
    message = f'expected a time zone such as "Europe/Dublin", found {show(value)}'
    assert error(Zone.from_config, value, FOLDER) == message


def test_a_path_is_relative_to_the_config_file() -> None:
    """Unless it is absolute."""
    assert path_from("var/a.db", FOLDER) == Path("/etc/gateway/var/a.db")
    assert path_from("/srv/a b/ü.db", FOLDER) == Path("/srv/a b/ü.db")


def test_dotted_paths_quote_what_toml_quotes() -> None:
    """No key can write to the operator's terminal."""
    assert dotted("", "a") == "a"
    assert dotted("a.b", "c-d_1") == "a.b.c-d_1"
    assert dotted("a", "b.c") == 'a."b.c"'
    assert dotted("a", "ü") == 'a."ü"'
    assert dotted("a", "") == 'a.""'
    assert dotted("a", "\x1b[31m\n") == 'a."\\u001b[31m\\n"'
    assert dotted("a", "x" * 1000) == f'a."{"x" * 80}…"'
    assert dotted("a", " " * 1000) == f'a."{" " * 80}…"'


class Shade:
    """A plugin's own type of field."""

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Shade:
        if value == "odd":
            raise KeyError("odd")
        if value not in ("light", "dark"):
            raise ValueError("a shade is light or dark")
        return cls(value)


class Unknowable:
    """A type with no way from TOML."""


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    sql: str
    fields: tuple[str, ...] = ()
    output: Path = Path("var/out")


class PluginConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    directory: Path = Path("var/archive")
    second: Path | None = None
    password: Secret | None = None
    every: Duration = Duration(60)
    limit: Annotated[int, msgspec.Meta(ge=1, le=10)] = 5
    ratio: float = 0.5
    compress: bool = False
    style: Literal["json", "console"] = "json"
    shade: Shade | None = None
    shades: list[Shade] = []
    names: tuple[str, ...] = ()
    pair: tuple[int, str] = (1, "a")
    tags: set[str] = set()
    either: int | str = 1
    since: datetime | None = None
    on: date | None = None
    anything: Any = None
    free: dict[str, Any] = {}
    by_name: dict[str, Duration] = {}
    queries: tuple[Query, ...] = ()
    named: dict[str, Query] = {}
    main: Query = Query(sql="select 1")
    extra: Query | None = None
    short: Annotated[str, msgspec.Meta(min_length=1, max_length=3)] = "abc"
    renamed: int = msgspec.field(default=1, name="from")


def read(text: str, kind: Any = PluginConfig) -> tuple[Any, list[tuple[str, str]]]:
    problems: list[Problem] = []
    found = TableReader(FOLDER, problems).table(kind, tomli.loads(text), "plugins.p")
    return found, [(problem.path, problem.message) for problem in problems]


def test_a_plugins_table_becomes_its_config() -> None:
    """Every kind of field."""
    found, problems = read(
        """
        directory = "a"
        second = "/b"
        every = "5m"
        limit = 10
        ratio = 1
        compress = true
        style = "console"
        shade = "dark"
        shades = ["dark", "light"]
        names = ["a", "b"]
        pair = [2, "b"]
        tags = ["x", "x"]
        either = "text"
        since = 2026-01-01T00:00:00Z
        on = 2026-01-01
        anything = [1, { a = 2026-01-01 }]
        free = { a = [1, 2.5, "x"], b = { c = true } }
        by_name = { a = "1s", "b c" = "2s" }
        main = { sql = "select 2" }
        short = "ab"
        from = 7
        [[queries]]
        sql = "select 3"
        fields = ["x"]
        output = "o"
        [named.one]
        sql = "select 4"
        """
    )
    assert problems == []
    assert isinstance(found, PluginConfig)
    assert (found.directory, found.second) == (FOLDER / "a", Path("/b"))
    found_values: object = (found.every, found.limit, found.ratio, found.compress, found.style)
    assert found_values == (300, 10, 1.0, True, "console")
    assert found.shade is not None
    assert [shade.name for shade in (found.shade, *found.shades)] == ["dark", "dark", "light"]
    assert (found.names, found.pair, found.tags, found.either) == (("a", "b"), (2, "b"), {"x"}, "text")
    assert found.since == datetime.fromisoformat("2026-01-01T00:00:00Z")
    assert found.on == date(2026, 1, 1)
    assert found.anything == [1, {"a": date(2026, 1, 1)}]
    assert found.free == {"a": [1, 2.5, "x"], "b": {"c": True}}
    assert found.by_name == {"a": Duration(1), "b c": Duration(2)}
    assert type(found.by_name["a"]) is Duration
    assert found.queries == (Query(sql="select 3", fields=("x",), output=FOLDER / "o"),)
    assert found.named == {"one": Query(sql="select 4", output=FOLDER / "var/out")}
    assert (found.short, found.renamed) == ("ab", 7)


def test_defaults_that_are_paths_are_relative_to_the_config_file_too() -> None:
    """As if they had been written there; also in tables left out."""
    found, problems = read("")
    assert problems == []
    assert found.directory == FOLDER / "var/archive"
    assert found.second is None
    assert found.main == Query(sql="select 1", output=FOLDER / "var/out")
    assert found.queries == ()


FAULTS: list[tuple[str, str, str]] = [
    ("directory = 5", "directory", "expected a path, found 5 (a number)"),
    ('directory = ""', "directory", 'expected a path, found ""'),
    ('directory = "a\\u0000"', "directory", "expected a path, found a string with control characters"),
    ("second = []", "second", "expected a path, found an array"),
    ('password = "canary"', "password",
     'a secret must not be in the config file; write { file = "path" } or { env = "NAME" }'),
    ("every = 5", "every", 'expected a duration such as "30s", "5m" or "24h", found 5 (a number)'),
    ('limit = "canary"', "limit", 'expected an integer, found "canary"'),
    ("limit = 5.0", "limit", "expected an integer, found 5.0 (a number)"),
    ("limit = true", "limit", "expected an integer, found true (a boolean)"),
    ("limit = 0", "limit", "expected an integer >= 1, found 0"),
    ("limit = 11", "limit", "expected an integer <= 10, found 11"),
    ("ratio = 'a'", "ratio", 'expected a number, found "a"'),
    ("compress = 1", "compress", "expected true or false, found 1 (a number)"),
    ('compress = "yes"', "compress", 'expected true or false, found "yes"'),
    ('style = "xml"', "style", 'expected one of "json", "console", found "xml"'),
    ("style = 5", "style", 'expected one of "json", "console", found 5 (a number)'),
    ('shade = "red"', "shade", "a shade is light or dark"),
    ('shade = "odd"', "shade", "KeyError: 'odd'"),
    ('shades = "dark"', "shades", 'expected an array, found "dark"'),
    ('shades = ["dark", "red"]', "shades[1]", "a shade is light or dark"),
    ("names = [1]", "names[0]", "expected a string, found 1 (a number)"),
    ("names = { a = 1 }", "names", "expected an array, found a table"),
    ("pair = [1]", "pair", "expected an array of length 2, found an array"),
    ("pair = [1, 2]", "pair[1]", "expected a string, found an integer"),
    ("either = 1.5", "either", "expected an integer or a string, found 1.5 (a number)"),
    ('since = "soon"', "since", 'expected a date and time, found "soon"'),
    ("since = 5", "since", "expected a date and time, found 5 (a number)"),
    ("since = 2026-01-01", "since", "expected a date and time, found 2026-01-01 (a date)"),
    ("on = 10:00:00", "on", "expected a date, found 10:00:00 (a time)"),
    ("free = 5", "free", "expected a table, found 5 (a number)"),
    ("by_name = { a = 1 }", "by_name.a", 'expected a duration such as "30s", "5m" or "24h", found 1 (a number)'),
    ('by_name = { "b c" = 1 }', 'by_name."b c"',
     'expected a duration such as "30s", "5m" or "24h", found 1 (a number)'),
    ("queries = {}", "queries", "expected an array, found a table"),
    ("queries = [5]", "queries[0]", "expected a table, found 5 (a number)"),
    ("[[queries]]", "queries[0].sql", "is missing"),
    ("[[queries]]\nsql = 5", "queries[0].sql", "expected a string, found 5 (a number)"),
    ('[[queries]]\nsql = ""\nfield = ["a"]', "queries[0].field", 'unknown key; did you mean "fields"?'),
    ("named = 5", "named", "expected a table, found 5 (a number)"),
    ("[named.one]", "named.one.sql", "is missing"),
    ('[named."a b"]', 'named."a b".sql', "is missing"),
    ("main = 5", "main", "expected a table, found 5 (a number)"),
    ("[main]", "main.sql", "is missing"),
    ("extra = 5", "extra", "expected a table, found 5 (a number)"),
    ("extra = {}", "extra.sql", "is missing"),
    ('short = ""', "short", 'expected a string of length >= 1, found ""'),
    ('short = "abcd"', "short", 'expected a string of length <= 3, found "abcd"'),
    ('from = "a"', "from", 'expected an integer, found "a"'),
    ("renamed = 1", "renamed", 'unknown key; did you mean "named"?'),
    ("direktory = 1", "direktory", 'unknown key; did you mean "directory"?'),
    ('"a\\u001b" = 1', '"a\\u001b"', "unknown key; known: "),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "message"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_a_fault_is_named_with_its_path(text: str, path: str, message: str) -> None:
    """What was expected, and what was found."""
    found, problems = read(text)
    assert found is None
    assert [path for path, _ in problems] == [f"plugins.p.{path}"]
    assert problems[0][1] == message or (message.endswith("known: ") and problems[0][1].startswith(message))


def test_every_fault_of_a_table_is_found_at_once() -> None:
    """Unknown keys first, in their order, then the fields in theirs, each element by itself."""
    found, problems = read(
        """
        zzz = 1
        aaa = 1
        every = 5
        names = [1, "a", 2]
        queries = [{ sql = 1 }, {}, { sql = "x", out = 1 }]
        directory = []
        """
    )
    assert found is None
    assert [path.removeprefix("plugins.p.") for path, _ in problems] == [
        "zzz",
        "aaa",
        "directory",
        "every",
        "names[0]",
        "names[2]",
        "queries[0].sql",
        "queries[1].sql",
        "queries[2].out",
    ]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "password",
            "api_key",
            "token",
            "client_secret",
            "dsn",
            "database_url",
            "authorization",
            "credentials",
            "pwd",
        ),
        *("dbpassword", "accessKey", "tokens", "password2", "oauth"),
    ],
)
def test_what_stands_where_a_secret_belongs_is_not_shown(name: str) -> None:
    """Whatever type the field has, and however deep."""
    kinds: list[tuple[Any, str]] = [(int, "{}"), (tuple[int, ...], "[{}]"), (dict[str, int], "{{ a = {} }}")]
    for kind, form in kinds:
        config = msgspec.defstruct("config", [(name, kind)])
        text = f"{name} = {form.format(chr(34) + 'canary' + chr(34))}"
        found, problems = read(text, config)
        assert found is None
        assert problems[0][1] == "expected an integer, found a string"
    table = msgspec.defstruct("config", [(name, int)])
    assert read(f"{name} = [1]", table)[1] == [(f"plugins.p.{name}", "expected an integer, found an array")]


def test_what_only_reads_like_a_secret_is_shown() -> None:
    """Words are compared whole; and what may have a few values only is none, whatever it is called."""
    for name in ("author", "keyboard", "tokenizer"):
        config = msgspec.defstruct("config", [(name, int)])
        assert read(f"{name} = 'x'", config)[1] == [(f"plugins.p.{name}", 'expected an integer, found "x"')]
    config = msgspec.defstruct("config", [("required_key", Literal["customer_uid"])])
    message = 'expected one of "customer_uid", found "phone"'
    assert read("required_key = 'phone'", config)[1] == [("plugins.p.required_key", message)]


def test_a_check_of_the_plugins_own_is_a_fault_of_its_table() -> None:
    """Whatever it raises."""

    class Checked(msgspec.Struct, frozen=True, kw_only=True):
        low: int
        high: int

        def __post_init__(self) -> None:
            if self.low == 7:
                raise RuntimeError
            if self.low > self.high:
                raise ValueError("low is above high")

    assert read("low = 2\nhigh = 1", Checked) == (None, [("plugins.p", "low is above high")])
    assert read("low = 7\nhigh = 1", Checked) == (None, [("plugins.p", "RuntimeError")])
    assert read("low = 2\nhigh = 'a'", Checked)[1] == [("plugins.p.high", 'expected an integer, found "a"')]


def test_a_type_without_a_way_from_toml_is_a_fault_not_a_traceback() -> None:
    """The plugin's author learns it from `gateway check`."""
    odd = msgspec.defstruct("odd", [("a", Unknowable), ("b", list[Unknowable] | Unknowable)])
    found, problems = read("a = 1\nb = 1", odd)
    assert found is None
    assert problems[0] == ("plugins.p.a", "AttributeError: type object 'Unknowable' has no attribute 'from_config'")
    assert problems[1][0] == "plugins.p.b"
    assert problems[1][1].startswith("Type unions containing a custom type")


def test_what_is_no_table_is_said_so() -> None:
    """Also at the top."""
    problems: list[Problem] = []
    assert TableReader(FOLDER, problems).table(PluginConfig, [1], "plugins.p") is None
    assert problems == [Problem("plugins.p", "expected a table, found an array")]

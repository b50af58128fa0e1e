"""`config.toml`: what is read, and every fault with its dotted path and a sentence."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.config.convert import ConfigError
from gateway.config.load import load_config, read_config
from gateway.config.rules import is_loopback, same_value
from gateway.config.tables import Config

SECRET = "cAnArY-0123456789-cAnArY-0123456789-cAnArY"  # 42 bytes; must never show
LONG = SECRET * 2
ACME = '[organisations.acme]\nsecrets = [{ env = "T_SECRET" }]\n'
REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(autouse=True, scope="module")
def _secrets() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("T_SECRET", SECRET)
        patch.setenv("T_LONG", LONG)
        patch.setenv("T_OTHER", "another secret, of more than 32 bytes")
        patch.setenv("T_SHORT", SECRET[:31])
        patch.setenv("T_EMPTY", "")
        patch.setenv("T_PEM", f"-----BEGIN PUBLIC KEY-----\n{SECRET}\n-----END PUBLIC KEY-----")
        patch.setenv("T_JWK", f'{{"kty":"oct","k":"{SECRET}"}}')
        patch.delenv("T_MISSING", raising=False)
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def load(text: str | bytes, folder: Path) -> Config:
    source = folder / "config.toml"
    source.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(source)


def problems(text: str | bytes, folder: Path) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        load(text, folder)
    return [(problem.path, problem.message) for problem in caught.value.problems]


def as_objects(*values: object) -> tuple[object, ...]:
    """The values, for a comparison with those of other types that are equal."""
    return values


def test_one_organisation_with_a_secret_is_enough(folder: Path) -> None:
    """Everything else has the documented defaults."""
    config = load(ACME, folder)
    assert config.source == folder / "config.toml"
    assert config.directory == folder
    server, admin, journal, delivery = config.server, config.admin, config.journal, config.delivery
    assert (server.host, server.port, server.path) == ("127.0.0.1", 8080, "/webio")
    assert as_objects(server.max_body, server.body_timeout, server.tls) == (2**20, 10, None)
    assert (server.trusted_proxies, server.allowed_networks) == ((), ())
    assert (admin.host, admin.port, admin.password) == ("127.0.0.1", 8081, None)
    assert journal.path == folder / "var/journal.db"
    assert as_objects(journal.retention, journal.max_size, journal.dedupe_window) == (30 * 86400, 10 * 2**30, 86400)
    assert as_objects(delivery.max_attempts, delivery.backoff, delivery.backoff_max) == (12, 1, 300)
    assert as_objects(delivery.timeout, delivery.concurrency) == (30, 4)
    assert as_objects(config.values.deadline, config.values.nullable, config.values.cache) == (3, (), 0)
    assert (config.log.level, config.log.format) == ("info", "console")
    acme = config.organisations["acme"]
    assert [secret.value for secret in acme.secrets] == [SECRET.encode()]
    assert as_objects(acme.algorithms, acme.claims, acme.issued_after, acme.leeway) == (("HS256",), {}, None, 60)
    assert acme.timezone.key == "UTC"
    assert (config.hooks, config.plugins) == ({}, ())


def test_every_key_can_be_set(folder: Path) -> None:
    """And arrives typed."""
    (folder / "a.secret").write_text(LONG + "\n")
    config = load(
        """
        [server]
        host = "0.0.0.0"
        port = 9000
        path = "/in/webio-2"
        max_body = "64 KiB"
        body_timeout = "2s"
        tls = { certificate = "tls/c.pem", key = "/etc/k.pem" }
        trusted_proxies = ["10.0.0.1"]
        allowed_networks = ["10.0.0.0/8", "2001:db8::/32"]
        [admin]
        host = "0.0.0.0"
        port = 9001
        password = { file = "a.secret" }
        [journal]
        path = "/srv/journal.db"
        retention = "7d"
        max_size = "1 GiB"
        min_free = "0 B"
        dedupe_window = "0s"
        [delivery]
        max_attempts = 1
        backoff = "2s"
        backoff_max = "2s"
        timeout = "1m"
        concurrency = 64
        [values]
        deadline = "500ms"
        nullable = ["a b", "c"]
        cache = "1m"
        [log]
        level = "debug"
        format = "json"
        [organisations.acme]
        secrets = [{ file = "a.secret" }, { env = "T_LONG" }]
        algorithms = ["HS512", "HS256"]
        claims = { org = "acme", n = 1, list = [1, { a = true }] }
        issued_after = 2026-01-01T00:00:00+01:00
        leeway = "0s"
        timezone = "Europe/Dublin"
        [organisations."globex.eu"]
        secrets = [{ env = "T_OTHER" }]
        [hooks.payment]
        types = ["webioPayment"]
        """,
        folder,
    )
    assert config.server.tls is not None
    assert (config.server.tls.certificate, config.server.tls.key) == (folder / "tls/c.pem", Path("/etc/k.pem"))
    assert "10.0.0.1" in config.server.trusted_proxies[0]
    assert "2001:db8::7" in config.server.allowed_networks[1]
    assert config.admin.password is not None and config.admin.password.text() == LONG
    assert config.journal.path == Path("/srv/journal.db")
    assert (config.server.max_body, config.values.deadline, config.values.nullable) == (65536, 0.5, ("a b", "c"))
    assert list(config.organisations) == ["acme", "globex.eu"]
    acme = config.organisations["acme"]
    assert acme.claims == {"org": "acme", "n": 1, "list": [1, {"a": True}]}
    assert acme.issued_after == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert acme.timezone.utcoffset(datetime(2026, 7, 1)) == timedelta(hours=1)
    assert acme.secrets[0].source == "file a.secret"
    assert config.hooks["payment"].types == ("webioPayment",)


def test_the_repositorys_own_config_is_sound(folder: Path) -> None:
    """Complete, commented, and it runs as it is once `gateway init` has made its secrets."""
    (folder / "var").mkdir()
    (folder / "var/admin.password").write_text(SECRET)
    (folder / "var/webio.secret").write_text(SECRET)
    config = load((REPOSITORY / "config.toml").read_bytes(), folder)
    assert [plugin.name for plugin in config.plugins] == ["logging", "archive", "sql_values"]


def test_relative_paths_are_relative_to_the_config_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the gateway is started, and however the file is named."""
    (folder / "etc").mkdir()
    (folder / "etc/webio.secret").write_text(SECRET)
    (folder / "etc/config.toml").write_text(
        '[journal]\npath = "j.db"\n[organisations.acme]\nsecrets = [{ file = "webio.secret" }]\n'
    )
    monkeypatch.chdir(folder)
    config = load_config(Path("etc/config.toml"))
    assert config.source == folder / "etc/config.toml"
    assert config.journal.path == folder / "etc/j.db"
    assert config.organisations["acme"].secrets[0].value == SECRET.encode()


def test_a_plugins_table_is_split_into_the_gateways_keys_and_its_own(folder: Path) -> None:
    """In the order of the file; the plugin's own keys stay as they stand, to be read by its Config."""
    config = load(
        ACME
        + """
        [plugins.archive]
        directory = "var/archive"
        from = "start"
        ordered = false
        timeout = "10s"
        concurrency = 2
        max_attempts = 3
        backoff = "1s"
        backoff_max = "1m"
        [plugins.archive-eu]
        use = "archive"
        enabled = false
        nested = { from = "x", use = "y", when = 2026-01-01 }
        [plugins."a.b"]
        """,
        folder,
    )
    one, two, three = config.plugins
    assert (one.name, one.plugin, one.table) == ("archive", "archive", {"directory": "var/archive"})
    own = one.settings
    assert as_objects(own.enabled, own.start, own.ordered, own.timeout) == (True, "start", False, 10)
    assert as_objects(own.concurrency, own.max_attempts, own.backoff, own.backoff_max) == (2, 3, 1, 60)
    assert (two.name, two.plugin, two.settings.enabled) == ("archive-eu", "archive", False)
    assert two.table == {"nested": {"from": "x", "use": "y", "when": date(2026, 1, 1)}}
    assert (three.name, three.plugin, three.table) == ("a.b", "a.b", {})
    assert three.settings.start == "end"
    assert as_objects(three.settings.timeout, three.settings.concurrency, three.settings.backoff) == (None,) * 3


def test_a_byte_order_mark_is_no_fault(folder: Path) -> None:
    """Some editors write one."""
    assert load(b"\xef\xbb\xbf" + ACME.encode(), folder).organisations.keys() == {"acme"}


FILES: dict[str, tuple[bytes, str]] = {
    "cut value": (b"[server]\nport = \n", "TOML syntax: Invalid value (line 2, column 8)"),
    "no statement": (b"\n\nhello\n", "TOML syntax: Expected '=' after a key in a key/value pair (line 3, column 6)"),
    "table twice": (b"[a]\n[a]\n", "TOML syntax: the table [a] is already defined (line 2, column 3)"),
    "key twice": (b"a = 1\na = 2\n", "TOML syntax: the key a is defined twice (line 2, column 6)"),
    "key twice in a table": (
        b"[[plugins.crm.queries]]\nsql = '''\n[x]\n'''\n'sql' = { a = 1 }\n",
        "TOML syntax: the key plugins.crm.queries.sql is defined twice (line 5, column 18)",
    ),
    "key twice in an inline table": (
        b"[admin]\npassword = { file = 1, file = 2 }\n",
        "TOML syntax: the key file is defined twice (line 2, column 32)",
    ),
    "table over a value": (
        b"a = 1\n[a]\n",
        "TOML syntax: [a] is already defined, and not as a table (line 2, column 3)",
    ),
    "table extended": (
        b"[a]\nx = { y = 1 }\nx.z = 1\n",
        "TOML syntax: a.x is already defined, and cannot be extended here (line 3, column 8)",
    ),
    "open string": (b'a = "x\n', "TOML syntax: Illegal character '\\n' (line 1, column 7)"),
    "not UTF-8": (b"a = 1\n\nb = '\xff'\n", "is not UTF-8 text (line 3)"),
    "UTF-16": ("a = 1".encode("utf-16"), "is not UTF-8 text (line 1)"),
    "NUL": (b"a = 1\0", "TOML syntax: Expected newline or end of document after a statement (line 1, column 6)"),
    "5000 digits": (b"a = " + b"9" * 5000, "TOML syntax: a number is too long, or a value is nested too deeply"),
    "nested": (b"a = " + b"[" * 9999, "TOML syntax: a number is too long, or a value is nested too deeply"),
    "long key": (b"a." * 5000 + b"a = 1", "TOML syntax: a number is too long, or a value is nested too deeply"),
}


@pytest.mark.parametrize(("text", "message"), FILES.values(), ids=FILES.keys())
def test_what_is_no_toml_has_a_place(text: bytes, message: str, folder: Path) -> None:
    """Line and column."""
    assert problems(text, folder) == [("config", message)]


def test_a_file_that_cannot_be_read_is_a_config_error(folder: Path) -> None:
    """Missing, a folder, or below something that is not a folder."""
    (folder / "file").touch()
    for name, message in {
        "missing.toml": "the file does not exist; make one with `gateway init`, or name another with -c/--config",
        ".": "cannot be read: Is a directory",
        "file/config.toml": "cannot be read: Not a directory",
        "x" * 300: "cannot be read: File name too long",
    }.items():
        with pytest.raises(ConfigError) as caught:
            load_config(folder / name)
        assert [(p.path, p.message) for p in caught.value.problems] == [("config", message)]
        assert str(caught.value) == f"{folder / name}: config: {message}"


def faults() -> Iterator[Any]:
    _, *cases = (Path(__file__).parent / "config_faults.txt").read_text().split("====\n")
    for case in cases:
        text, expected = case.split("----\n")
        yield pytest.param(text, expected.splitlines(), id=text.replace("\n", " ")[:80])


@pytest.mark.parametrize(("text", "expected"), list(faults()))
def test_a_fault_has_its_path_and_a_sentence(text: str, expected: list[str], folder: Path) -> None:
    """Exactly these, and no fault that only follows from another."""
    if "organisations" not in text:
        text = f"{ACME}{text}" if text.startswith("[") else f"{text}{ACME}"
    assert [f"{path}: {message}" for path, message in problems(text, folder)] == expected


@pytest.mark.parametrize("text", ["", "# nothing\n", "\n"])
def test_an_empty_file_lacks_an_organisation(text: str, folder: Path) -> None:
    """Nothing else has no default."""
    assert problems(text, folder) == [("organisations", "expected at least one, such as [organisations.acme]")]


@pytest.mark.parametrize(
    ("host", "name"),
    [("gw-1.example.com", "gw-1.example.com"), ("Ann's Mac", "Ann-s-Mac"), ("-", "gateway"), ("a" * 80, "a" * 63)],
)
def test_a_node_is_called_by_its_host(host: str, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the config names none, with only what a name of a node may have."""
    monkeypatch.setattr(socket, "gethostname", lambda: host)

    assert load(ACME, folder).node.name == name
    assert load(f'{ACME}[node]\nname = "east-1"\n', folder).node.name == "east-1"


@pytest.mark.parametrize(
    "claims",
    [
        ("{ org = 'a' }", "{ org = 'b' }"),
        ("{ org = 1 }", "{ org = true }"),
        ("{ n = 1, org = 'a' }", "{ n = 1, org = 'b' }"),
    ],
)
def test_organisations_may_share_a_secret_when_claims_tell_them_apart(claims: tuple[str, str], folder: Path) -> None:
    """No token can be both's then."""
    config = load(f"{ACME}claims = {claims[0]}\n{ACME.replace('acme', 'globex')}claims = {claims[1]}", folder)
    assert list(config.organisations) == ["acme", "globex"]


def test_one_organisation_may_name_a_secret_twice(folder: Path) -> None:
    """During a rotation file and variable may hold the same."""
    secrets = '[organisations.acme]\nsecrets = [{ env = "T_SECRET" }, { env = "T_SECRET" }]'
    assert len(load(secrets, folder).organisations["acme"].secrets) == 2


@pytest.mark.parametrize("port", ["8080", "8081"])
def test_listeners_on_addresses_of_their_own_may_have_one_port(port: str, folder: Path) -> None:
    """Two interfaces of one machine."""
    config = load(f'{ACME}[server]\nhost = "192.0.2.1"\nport = {port}\n[admin]\nport = {port}', folder)
    assert config.admin.port == config.server.port


def test_an_admin_listener_with_a_password_may_be_anywhere(folder: Path) -> None:
    """A short one too: it is the operator's choice."""
    config = load(f'{ACME}[admin]\nhost = "::"\npassword = {{ env = "T_SHORT" }}', folder)
    assert config.admin.host == "::"


def test_every_fault_is_reported_in_one_run(folder: Path) -> None:
    """Fields and what stands between fields, of every table, sound tables beside unsound ones."""
    text = f"""
        servr = 1
        [server]
        port = "x"
        max_body = 5
        path = "webio"
        [admin]
        host = "0.0.0.0"
        [journal]
        retention = "long"
        [delivery]
        timeout = "0s"
        [values]
        deadline = "0s"
        [organisations.acme]
        secrets = ["{SECRET}", {{ env = "T_MISSING" }}]
        timezone = "Mars"
        [organisations.globex]
        secrets = [{{ env = "T_SHORT" }}]
        [organisations."not a name"]
        secrets = [{{ env = "T_SHORT" }}]
        claims = {{ a = 2026-01-01 }}
        [hooks.payment]
        types = ["setStatus"]
        [hooks.nothing]
        [plugins.archive]
        from = 1
        timeout = 2
        [plugins."a b"]
        [plugins.logging]
        timeout = "0s"
        """
    found = problems(text, folder)
    assert [path for path, _ in found] == [
        "plugins.archive.from",
        "plugins.archive.timeout",
        'plugins."a b"',
        "plugins.logging.timeout",
        "servr",
        "server.port",
        "server.path",
        "server.max_body",
        "journal.retention",
        "delivery.timeout",
        "values.deadline",
        "organisations.acme.secrets[0]",
        "organisations.acme.secrets[1]",
        "organisations.acme.timezone",
        "admin.password",
        "organisations.globex.secrets[0]",
        'organisations."not a name"',
        'organisations."not a name".claims.a',
        'organisations."not a name".secrets[0]',
        'organisations."not a name".secrets[0]',
        "hooks.payment.types[0]",
        "hooks.nothing",
    ]


def test_what_is_sound_of_a_faulty_config_can_be_had(folder: Path) -> None:
    """For the checks that follow: keys with a fault have their defaults, what is named and faulty is left out."""
    source = folder / "config.toml"
    source.write_text(
        ACME
        + """
        [server]
        port = "x"
        host = "10.0.0.1"
        [journal]
        path = 5
        [values]
        deadline = "soon"
        nullable = [1]
        fields.a = { nullable = true }
        fields.b = { nullable = 1 }
        [organisations.globex]
        [hooks.payment]
        types = 5
        [plugins.archive]
        timeout = 5
        max_attempts = 3
        directory = "x"
        [plugins.logging]
        [plugins.one]
        use = 5
        [plugins.two]
        enabled = "no"
        """
    )

    config, found = read_config(source)

    assert [problem.path for problem in found] == [
        "plugins.archive.timeout",
        "plugins.one.use",
        "plugins.two.enabled",
        "server.port",
        "journal.path",
        "values.deadline",
        "values.nullable[0]",
        "values.fields.b.nullable",
        "organisations.globex.secrets",
        "hooks.payment.types",
    ]
    assert (config.server.host, config.server.port) == ("10.0.0.1", 8080)
    assert config.journal.path == folder / "var/journal.db"
    assert as_objects(config.values.deadline, config.values.nullable, list(config.values.fields)) == (3, (), ["a"])
    assert (list(config.organisations), config.hooks) == (["acme"], {})
    archive, logging = config.plugins
    assert (archive.settings.timeout, archive.settings.max_attempts, archive.table) == (None, 3, {"directory": "x"})
    assert logging.name == "logging"


def test_a_config_can_be_read_without_its_secrets(folder: Path) -> None:
    """Missing, empty, too short or shared: none is looked at. How they are written is a fault all the same."""
    source = folder / "config.toml"
    text = """
        [admin]
        host = "0.0.0.0"
        password = { file = "nowhere.password" }
        [organisations.acme]
        secrets = [{ env = "T_MISSING" }, { env = "T_EMPTY" }, { env = "T_SHORT" }, { env = "T_SECRET" }]
        [organisations.globex]
        secrets = [{ env = "T_SECRET" }]
        """
    source.write_text(text)

    config = load_config(source, secrets=False)

    assert repr(config.organisations["acme"].secrets[0]) == "<secret from env, not read yet>"
    assert config.admin.password is not None
    with pytest.raises(ValueError, match=r"^the secret file .*nowhere\.password does not exist$"):
        _ = config.admin.password.value
    assert config.organisations["globex"].secrets[0].value == SECRET.encode()
    source.write_text(text + 'algorithms = []\n[organisations.x]\nsecrets = ["literal"]\n')
    with pytest.raises(ConfigError) as caught:
        load_config(source, secrets=False)
    assert [p.path for p in caught.value.problems] == ["organisations.x.secrets[0]", "organisations.globex.algorithms"]
    with pytest.raises(ConfigError, match="the environment variable T_MISSING is not set"):
        load_config(source)


def test_the_order_of_faults_is_the_same_each_time(folder: Path) -> None:
    """Unknown keys in the order of the file."""
    keys = [f"key{n}" for n in range(40)]
    text = ACME + "[server]\n" + "\n".join(f"{key} = 1" for key in reversed(keys))
    assert [path for path, _ in problems(text, folder)] == [f"server.{key}" for key in reversed(keys)]


def test_an_error_is_a_line_per_fault_with_file_and_path(folder: Path) -> None:
    """As the command line prints it."""
    with pytest.raises(ConfigError) as caught:
        load('[server]\nport = 0\nhost = ""\n' + ACME, folder)
    assert caught.value.source == folder / "config.toml"
    assert str(caught.value).splitlines() == [
        f'{folder}/config.toml: server.host: expected an address or a host name such as "127.0.0.1", found ""',
        f"{folder}/config.toml: server.port: expected an integer >= 1, found 0",
    ]


def test_no_message_and_no_repr_holds_a_secret(folder: Path) -> None:
    """From a file, a variable, or by mistake from the config itself, whatever else is wrong."""
    (folder / "canary").write_text(SECRET)
    sources = ['{ file = "canary" }', '{ env = "T_SECRET" }']
    assert "cAnArY" not in repr(load(f"[organisations.acme]\nsecrets = [{', '.join(sources)}]", folder))
    literal = json.dumps(SECRET)
    places = [
        *sources,
        literal,
        f"[{literal}]",
        f"{{ file = [{literal}] }}",
        f"{{ env = {json.dumps(SECRET + '==')} }}",
        f"{{ env = {literal} }}",
        f"{{ file = {literal} }}",
    ]
    places += [f"{{ value = {literal} }}", f"{{ env = {literal}, file = {literal} }}"]
    templates = [
        "[admin]\npassword = {}\nport = 8080",
        "[organisations.acme]\nsecrets = {}",
        "[organisations.acme]\nsecrets = [{}, 5]",
        "[organisations.acme]\nsecrets = [{}]\nalgorithms = ['HS512']",
        "[organisations.acme]\nsecrets = [{}]\n[organisations.b]\nsecrets = [{}]",
        "[organisations.acme]\nsecret = {}",
        "[organisations.acme]\nsecrets = [{{ env = 'T_SECRET' }}]\nkey = {}\n[plugins.x]\nurl = {}\ntimeout = 5",
        "[organisations.acme]\nsecrets = [{}\n",
        "[organisations.acme]\nsecrets = [{{ env = 'T_PEM' }}, {{ env = 'T_JWK' }}, {}]",
        "[organisations.acme]\nsecrets = {}\nsecrets = {}",
    ]
    seen = 0
    for template in templates:
        for place in places:
            try:
                shown = repr(
                    load(template.replace("{}", place).replace("{{", "{").replace("}}", "}"), folder).organisations
                )
            except ConfigError as error:
                shown = f"{error} {error!r} {error.problems} {error.__cause__} {error.__suppress_context__}"
                seen += 1
            assert "cAnArY" not in shown
    assert seen > 60


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("", False),
        ("2130706433", False),
    ],
)
def test_loopback_is_only_what_surely_is(host: str, loopback: bool) -> None:
    """Names are not looked up."""
    assert is_loopback(host) is loopback


def test_values_are_the_same_only_with_the_same_type() -> None:
    """As in JSON text: 1, 1.0 and true are three."""
    values: list[Any] = [
        1,
        1.0,
        True,
        "1",
        0,
        0.0,
        False,
        "",
        None,
        [],
        {},
        [1],
        [True],
        {"a": 1},
        {"a": True},
        {"b": 1},
    ]
    for one in values:
        for other in values:
            assert same_value(one, other) is (json.dumps(one) == json.dumps(other))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
WORDS = [
    "server",
    "port",
    "host",
    "path",
    "tls",
    "secrets",
    "claims",
    "file",
    "env",
    "T_SECRET",
    "T_MISSING",
    "acme",
    "types",
]
WORDS += [
    "plugins",
    "organisations",
    "hooks",
    "payment",
    "from",
    "start",
    "use",
    "timeout",
    "1s",
    "1 MiB",
    "HS256",
    "UTC",
    ".",
]
SCALARS: st.SearchStrategy[Any] = (
    st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | TEXTS
    | st.sampled_from(WORDS)
    | st.dates()
    | st.times()
    | st.datetimes(timezones=st.none() | st.just(UTC) | st.just(timezone(timedelta(hours=5, minutes=30))))
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | TEXTS, inner, max_size=3),
    max_leaves=8,
)
GOOD = """
[server]
host = "127.0.0.1"
port = 8080
path = "/webio"
max_body = "1 MiB"
body_timeout = "10s"
trusted_proxies = ["10.0.0.1"]
tls = { certificate = "c", key = "k" }
[admin]
port = 8081
password = { env = "T_SECRET" }
[journal]
path = "j.db"
retention = "1d"
max_size = "1 GiB"
[delivery]
max_attempts = 3
backoff = "1s"
backoff_max = "2s"
timeout = "3s"
concurrency = 2
[values]
deadline = "1s"
nullable = ["a"]
fields.balance = { provider = "archive", aliases = ["b"], format = "{:.2f}", pattern = "[0-9]+", cache = "1s" }
[log]
level = "info"
format = "json"
[organisations.acme]
secrets = [{ env = "T_SECRET" }]
algorithms = ["HS256"]
claims = { org = "acme", list = [1, { a = true }] }
issued_after = 2026-01-01T00:00:00Z
leeway = "1s"
timezone = "UTC"
[organisations.globex]
secrets = [{ env = "T_SECRET" }, { env = "T_OTHER" }]
claims = { org = "globex" }
[hooks.payment]
types = ["paid"]
[plugins.archive]
enabled = true
use = "archive"
from = "start"
timeout = "1s"
directory = "x"
"""


def toml(value: Any) -> str:
    """A TOML value; a table as an inline one."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value) + '"'
    if isinstance(value, date | time):
        return value.isoformat()
    return repr(value)


def document(tree: dict[str, Any]) -> str:
    return "\n".join(f"{toml(key)} = {toml(value)}" for key, value in tree.items())


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


@st.composite
def mutations(draw: st.DrawFn) -> dict[str, Any]:
    """The good document with values replaced, removed, or added."""
    tree: dict[str, Any] = tomli.loads(GOOD)
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from(list(places(tree))))
        inside: Any = tree
        for key in parents:
            inside = inside[key]
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                inside[last] = draw(TREES)
            case "remove":
                del inside[last]
            case "add" if isinstance(inside, dict):
                inside[draw(TEXTS | st.sampled_from(WORDS))] = draw(TREES)
        if not tree:
            break
    return tree


def _loads_or_explains(text: str, folder: Path) -> None:
    try:
        config = load(text, folder)
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.path and problem.message
            assert problem.path.isprintable() or "\\u" in problem.path
            assert "\n" not in problem.message and "\x1b" not in problem.message
            assert len(problem.message) < 500
        assert "cAnArY" not in str(error)
    else:
        assert config.organisations
        assert "cAnArY" not in repr(config)


def test_the_good_document_is_good(folder: Path) -> None:
    """Or else the mutations of it would say nothing."""
    assert load(document(tomli.loads(GOOD)), folder).organisations.keys() == {"acme", "globex"}


@given(tree=mutations())
@example(tree={"organisations": 3})
@settings(max_examples=100)
def test_a_good_document_with_changes_is_read_or_explained(tree: dict[str, Any], tmp_path_factory: Any) -> None:
    """Never a traceback; each problem is one line with a path."""
    _loads_or_explains(document(tree), tmp_path_factory.getbasetemp())


@given(tree=st.dictionaries(st.sampled_from(list(tomli.loads(GOOD))) | TEXTS, TREES, max_size=5))
@settings(max_examples=80)
def test_any_document_is_read_or_explained(tree: dict[str, Any], tmp_path_factory: Any) -> None:
    """Whatever stands where."""
    _loads_or_explains(document(tree), tmp_path_factory.getbasetemp())


@given(text=st.text(st.sampled_from("[]{}=\"'.,#\n \\abc019-_:TZ+einf\x00\x7f\ufeff"), max_size=60) | TEXTS)
@settings(max_examples=80)
def test_any_text_is_read_or_explained(text: str, tmp_path_factory: Any) -> None:
    """TOML or not."""
    _loads_or_explains(text, tmp_path_factory.getbasetemp())


def test_the_environment_is_put_back() -> None:
    """Guard of this file's own fixture: the variables above are not left over from elsewhere."""
    assert os.environ["T_SECRET"] == SECRET
    assert "T_MISSING" not in os.environ

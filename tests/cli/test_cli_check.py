"""`gateway check`: every fault of the configuration at once, in three levels."""

from __future__ import annotations

import errno
import json
import os
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from cli_process import run_cli
from click.testing import CliRunner, Result
from machine import free_ports
from running import RunningGateway, write_config, write_plugin

from gateway.cli import check_environment, cli
from gateway.cli.init import _customers, init
from gateway.journal.lock import GATEWAY, Holder, JournalLock
from gateway.journal.sqlite.layout import LAYOUT

CHECKED = """
from gateway import hookimpl

class Plugin:
    def __init__(self): ...

    @hookimpl
    {check}
"""


def check(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["check", "-c", str(config), *arguments])


NO_PASSWORD = (
    "is missing: every user and every program of this machine can look up customers and discard events;"
    ' write password = { file = "path" }'
)


def found(config: Path, *arguments: str) -> tuple[dict[str, str], dict[str, str]]:
    """The errors and the warnings by path, without the one about a missing password: these configs have none."""
    document = json.loads(check(config, "--json", *arguments).output)
    errors, warnings = (
        {problem["path"]: problem["message"] for problem in document[key]} for key in ("errors", "warnings")
    )
    assert document["ok"] == (not errors)
    if warnings.get("admin.password") == NO_PASSWORD:
        del warnings["admin.password"]
    return errors, warnings


def test_the_example_has_no_fault(tmp_path: Path) -> None:
    """What `gateway init` writes passes all three levels, its queries prepared on the sample database."""
    init(tmp_path / "config.toml")
    config = tmp_path / "config.toml"
    ports = free_ports(2)
    text = config.read_text().replace("#port = 8080", f"port = {ports[0]}")
    config.write_text(text.replace("#port = 8081", f"port = {ports[1]}").replace("#max_size", 'max_size = "1 GiB" #'))

    result = check(config)

    assert (0, f"{config}: no errors, no warnings\n") == (result.exit_code, result.output)


def test_json_is_one_document_of_the_promised_shape(tmp_path: Path) -> None:
    """`{"ok": false, "errors": [{"path", "message"}], "warnings": []}`, and exit 78."""
    result = check(write_config(tmp_path, "[plugins.archive]\n"), "--json")

    assert result.exit_code == 78
    expected = {"ok": False, "errors": [{"path": "plugins.archive.directory", "message": "is missing"}]}
    expected["warnings"] = [{"path": "admin.password", "message": NO_PASSWORD}]
    assert expected == json.loads(result.output)


def test_a_fault_is_a_line_with_its_place_and_a_sentence(tmp_path: Path) -> None:
    """And the last line counts them."""
    config = write_config(tmp_path, "[plugins.archive]\n")

    _, fault, warning, *_, last = check(config, "--offline").output.splitlines()

    assert fault.split(maxsplit=2) == ["error", "plugins.archive.directory", "is missing"]
    assert warning.split(maxsplit=2)[:2] == ["warning", "admin.password"]
    assert f"{config}: 1 error, 1 warning" == last


def test_neither_place_nor_sentence_is_shortened(tmp_path: Path) -> None:
    """However long the place is, it is what has to be found in the file."""
    name = "balance_" * 10
    config = write_config(tmp_path, f"[values.fields.{name}]\ncolour = 1\n")

    assert f"values.fields.{name}.colour  unknown key; " in check(config, "--offline").output


def test_all_faults_of_the_fields_come_together(tmp_path: Path) -> None:
    """Wrong types, unknown keys, missing tables: one run names them all."""
    config = tmp_path / "config.toml"
    config.write_text('[server]\nport = "x"\nprot = 1\n[journal]\nretention = "soon"\n')

    errors, _ = found(config)

    assert {"server.port", "server.prot", "journal.retention", "organisations"} <= errors.keys()


def test_a_syntax_error_has_line_and_column(tmp_path: Path) -> None:
    """As TOML itself counts them."""
    config = tmp_path / "config.toml"
    config.write_text("[server]\nport = = 1\n")

    errors, _ = found(config)

    assert list(errors) == ["config"]
    assert errors["config"].startswith("TOML syntax: ")
    assert "(line 2, column 8)" in errors["config"]


def test_faults_of_wiring_and_environment_come_together(tmp_path: Path) -> None:
    """A plugin that is not installed does not hide a folder that cannot be used."""
    (tmp_path / "file").write_text("")
    config = write_config(tmp_path, '[plugins.crm]\n[journal]\npath = "file/journal.db"\n')

    errors, _ = found(config)

    assert {"plugins.crm", "journal.path"} == errors.keys()
    assert errors["plugins.crm"].startswith('no plugin "crm" is installed; installed: ')
    assert f"{tmp_path / 'file'} is not a folder" == errors["journal.path"]


def test_faults_of_all_three_levels_come_together(tmp_path: Path) -> None:
    """A field with a fault hides neither a plugin's settings nor a folder, a database or a port."""
    (tmp_path / "file").write_text("")
    text = """
        body_timeout = "soon"
        [journal]
        path = "file/journal.db"
        [plugins.archive]
        [plugins.crm]
        [plugins.logging]
        [plugins.sql_values]
        url = "sqlite:///nowhere.db"
        [[plugins.sql_values.queries]]
        sql = "SELECT 1 AS one"
        [values.fields.one]
        provider = "logging"
        """

    errors, _ = found(write_config(tmp_path, text))

    assert list(errors) == [
        "server.body_timeout",
        "plugins.archive.directory",
        "plugins.crm",
        "values.fields.one.provider",
        "journal.path",
        "plugins.sql_values",
    ]
    assert errors["values.fields.one.provider"] == "logging answers no custom values; those that do: sql_values"


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ("timeout = 5", "plugins.static_values.timeout"),
        ("vlaues = {}", "plugins.static_values.vlaues"),
        ("organisations = 5", "plugins.static_values.organisations"),
        ("use = 5", "plugins.static_values.use"),
        ("enabled = 5", "plugins.static_values.enabled"),
        ('use = "static_vlaues"', "plugins.static_values"),
    ],
)
def test_what_only_follows_from_a_fault_is_not_told(tmp_path: Path, table: str, path: str) -> None:
    """A field's provider is there, although its own table has a fault."""
    text = f'[plugins.static_values]\n{table}\n[values.fields.balance]\nprovider = "static_values"\n'

    errors, _ = found(write_config(tmp_path, text))

    assert list(errors) == [path]


def test_a_tables_own_faults_and_those_of_the_plugins_config_come_together(tmp_path: Path) -> None:
    """Both stand in [plugins.archive]; and a fault in [values] does not hide a provider that is not enabled."""
    text = """
        [plugins.archive]
        timeout = 5
        [plugins.logging]
        max_attempts = "many"
        [values]
        deadline = "soon"
        [values.fields.balance]
        provider = "logging"
        """

    assert list(found(write_config(tmp_path, text))[0]) == [
        "plugins.archive.timeout",
        "plugins.logging.max_attempts",
        "values.deadline",
        "plugins.archive.directory",
        "values.fields.balance.provider",
    ]


def test_the_defaults_of_a_faulty_table_are_not_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway would not run with them: neither the journal's folder nor the port is checked."""
    (tmp_path / "var").write_text("")  # where the journal is by default
    monkeypatch.setattr(check_environment, "_try_to_bind", in_use)
    config = write_config(tmp_path, 'colour = "red"\n[journal]\npaht = "journal.db"\n[delivery]\ntimeout = 5\n')

    assert list(found(config)[0]) == ["server.colour", "journal.paht", "delivery.timeout"]
    config.write_text(config.read_text().replace("paht", "path"))
    assert list(found(config)[0]) == ["server.colour", "delivery.timeout", "admin.port"]


def in_use(host: str, port: int) -> None:
    raise OSError(errno.EADDRINUSE, "in use")


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    """Some editors write one; it is not part of the TOML."""
    config = write_config(tmp_path)
    config.write_bytes(b"\xef\xbb\xbf" + config.read_bytes())

    assert found(config) == ({}, {})


def test_offline_leaves_the_environment_alone(tmp_path: Path) -> None:
    """No folder, no port, no database is looked at."""
    (tmp_path / "file").write_text("")

    assert found(write_config(tmp_path, '[journal]\npath = "file/journal.db"\n'), "--offline") == ({}, {})


def test_check_changes_nothing(tmp_path: Path) -> None:
    """No folder is made, no file written."""
    config = write_config(tmp_path, '[plugins.archive]\ndirectory = "archive"\n')
    before = sorted(tmp_path.rglob("*"))

    assert check(config).exit_code == 0
    assert before == sorted(tmp_path.rglob("*"))


def test_a_database_that_is_not_there_is_its_plugins_fault(tmp_path: Path) -> None:
    """The plugin's own `check` says so, under its path."""
    text = """
        [plugins.sql_values]
        url = "sqlite:///nowhere.db"
        [[plugins.sql_values.queries]]
        sql = "SELECT 1 AS one"
        """

    errors, _ = found(write_config(tmp_path, text))

    assert {"plugins.sql_values": f"the database file {tmp_path / 'nowhere.db'} does not exist"} == errors


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("def check(self): raise ValueError('the queue crm.in does not exist')", "the queue crm.in does not exist"),
        ("async def check(self): raise OSError('no route to the host')", "no route to the host"),
        ("def check(self): raise KeyError('host')", "KeyError: 'host'"),
        ("def check(self): raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_what_a_plugins_check_raises_is_an_error(tmp_path: Path, site: Path, method: str, message: str) -> None:
    """Sync or async, whatever it raises; a sentence is shown as it is."""
    write_plugin(site, "checked", CHECKED.format(check=method))

    errors, _ = found(write_config(tmp_path, "[plugins.checked]\n"))

    assert {"plugins.checked": message} == errors


def test_what_a_plugins_check_raises_is_told_whole(tmp_path: Path, site: Path) -> None:
    """However long it is."""
    sentence = "the table " + "of tables " * 50 + "has no column due_date"
    write_plugin(site, "checked", CHECKED.format(check=f"def check(self): raise ValueError({sentence!r})"))

    assert found(write_config(tmp_path, "[plugins.checked]\n"))[0] == {"plugins.checked": sentence}


def test_what_a_plugins_check_returns_are_warnings(tmp_path: Path, site: Path) -> None:
    """They are shown, and exit with 0."""
    write_plugin(site, "checked", CHECKED.format(check="def check(self): return ['its role may write']"))
    config = write_config(tmp_path, "[plugins.checked]\n")

    assert found(config) == ({}, {"plugins.checked": "its role may write"})
    assert check(config).exit_code == 0


def test_a_plugins_check_that_hangs_is_given_up(tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others' findings are shown all the same."""
    monkeypatch.setattr(check_environment, "_CHECK_TIMEOUT", 0.2)
    hanging = "def check(self): __import__('threading').Event().wait(10)"
    write_plugin(site, "hanging", CHECKED.format(check=hanging))

    errors, _ = found(write_config(tmp_path, "[plugins.hanging]\n"))

    assert errors == {"plugins.hanging": "its check failed: no answer within 0.2 s"}


def test_a_port_in_use_is_an_error(tmp_path: Path) -> None:
    """By a program that is not a gateway."""
    config = write_config(tmp_path)
    port = int(config.read_text().partition("[server]\nport = ")[2].split()[0])
    with socket.create_server(("127.0.0.1", port)):
        errors, _ = found(config)

    assert {"server.port": f"{port} is in use by another program"} == errors


def test_a_port_that_systemd_may_hold_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket unit of the gateway holds it while the gateway is stopped: root's socket, on a machine with systemd."""
    if os.geteuid() != 0:
        pytest.skip("only root's sockets count")
    monkeypatch.setattr(check_environment, "_SYSTEMD", tmp_path)
    config = write_config(tmp_path)
    port = int(config.read_text().partition("[server]\nport = ")[2].split()[0])
    with socket.create_server(("127.0.0.1", port)):
        errors, warnings = found(config)

    assert errors == {}
    assert warnings["server.port"].startswith(f"{port} is in use by a process of root; that is well if it is systemd")


@pytest.mark.parametrize("listener", ["server", "admin"])
def test_a_port_that_the_running_gateway_does_not_have_is_an_error(
    running_gateway: RunningGateway, listener: str
) -> None:
    """The config was changed since it started, and another program listens there."""
    text = running_gateway.config_path.read_text()
    changed = running_gateway.directory / "changed.toml"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        before = getattr(running_gateway.config, listener).port
        changed.write_text(text.replace(f"port = {before}", f"port = {port}"))
        assert found(changed) == ({f"{listener}.port": f"{port} is in use by another program"}, {})


@pytest.mark.parametrize("process", ["no process", "1"])
def test_a_port_of_which_nothing_can_be_known_is_a_warning(
    running_gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, process: str
) -> None:
    """The process that has the journal is not visible, or its id belongs to another process here."""
    monkeypatch.setattr(JournalLock, "holder", lambda self: Holder(process, GATEWAY))

    errors, warnings = found(running_gateway.config_path)

    assert errors == {}
    assert warnings.keys() == {"server.port", "admin.port"}
    assert "this user cannot see whether by the running gateway" in warnings["server.port"]


def test_the_running_gateways_own_ports_are_no_fault(running_gateway: RunningGateway) -> None:
    """Its config may be checked beside it."""
    assert found(running_gateway.config_path) == ({}, {})


def test_an_address_of_another_machine_is_an_error(tmp_path: Path) -> None:
    """One cannot listen on it."""
    errors, _ = found(write_config(tmp_path, 'host = "192.0.2.1"\n'))

    assert errors == {"server.host": "192.0.2.1 is not an address of this machine"}


def test_a_listener_without_tls_for_everyone_is_a_warning(tmp_path: Path) -> None:
    """Unless a proxy is named that stands in front of it."""
    open_to_all = write_config(tmp_path, 'host = "0.0.0.0"\n')
    _, warnings = found(open_to_all)
    assert "are sent unencrypted" in warnings["server.host"]

    behind_a_proxy = write_config(tmp_path, 'host = "0.0.0.0"\ntrusted_proxies = ["10.0.0.1"]\n')
    assert found(behind_a_proxy)[1] == {}


def test_a_secret_that_others_can_read_is_a_warning(tmp_path: Path) -> None:
    """With its path in the config, its mode, and what to do."""
    config = write_config(tmp_path)
    (tmp_path / "webio.secret").chmod(0o644)

    _, warnings = found(config)

    message = f"{tmp_path / 'webio.secret'} can be read by others (mode 0644); `chmod 600` it"
    assert {"organisations.acme.secrets[0]": message} == warnings


def test_tls_files_that_cannot_be_used_are_errors(tmp_path: Path) -> None:
    """Missing files by name, and files that OpenSSL does not accept."""
    table = '[server.tls]\ncertificate = "gateway.crt"\nkey = "gateway.key"\n'
    config = write_config(tmp_path, table)
    assert {"server.tls.certificate": f"{tmp_path / 'gateway.crt'} does not exist"} == found(config)[0]

    (tmp_path / "gateway.crt").write_text("no certificate")
    (tmp_path / "gateway.key").touch(0o600)
    errors, _ = found(config)
    assert list(errors) == ["server.tls"]
    assert "cannot serve with the certificate" in errors["server.tls"]


def a_folder(place: Path) -> None:
    place.mkdir()


def a_text(place: Path) -> None:
    place.write_text("no journal\n" * 200)


def a_short_text(place: Path) -> None:
    place.write_text("no journal")


def a_database(place: Path) -> None:
    with closing(apsw.Connection(str(place))) as database:
        database.execute("CREATE TABLE customers (uid TEXT)")


def a_later_journal(place: Path) -> None:
    with closing(apsw.Connection(str(place))) as database:
        database.pragma("user_version", 99)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (a_folder, "the journal {} cannot be opened: it is not a file"),
        (a_text, "the journal {} cannot be opened: file is not a database"),
        (a_short_text, "the journal {} cannot be opened: file is not a database"),
        (a_database, "{}: is a database, but not a journal"),
        (
            a_later_journal,
            "{}: was written by a newer version of the gateway (layout 99); "
            f"this one knows up to {LAYOUT}: install that version",
        ),
    ],
)
def test_what_is_no_journal_is_an_error(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    """Nothing of it is changed, and nothing is made beside it."""
    place = tmp_path / "journal?.db"
    make(place)
    place.chmod(place.stat().st_mode & 0o700)
    config = write_config(tmp_path, '[journal]\npath = "journal?.db"\n')
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}

    assert found(config) == ({"journal.path": message.format(place)}, {})
    assert before == {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}


def test_a_journal_of_this_gateway_is_accepted(running_gateway: RunningGateway) -> None:
    """Closed as it should be, or left by one that was killed; an empty file, too."""
    running_gateway.stop()
    assert found(running_gateway.config_path) == ({}, {})
    running_gateway.start()
    running_gateway.kill()
    assert found(running_gateway.config_path) == ({}, {})
    for file in running_gateway.config.journal.path.parent.glob("journal.db*"):
        file.unlink()
    running_gateway.config.journal.path.write_bytes(b"")
    running_gateway.config.journal.path.chmod(0o600)
    assert found(running_gateway.config_path) == ({}, {})


def test_a_journal_without_room_for_anything_is_an_error(tmp_path: Path) -> None:
    """Every event would be answered 503."""
    errors, _ = found(write_config(tmp_path, '[journal]\nmax_size = "0 B"\n'), "--offline")

    assert errors == {"journal.max_size": 'expected a size larger than 0 and at most "1024 TiB", found "0 B"'}


def test_two_archives_of_one_directory_are_an_error(tmp_path: Path) -> None:
    """The second could not start; `run` says so with the same exit code."""
    config = write_config(
        tmp_path, '[plugins.archive]\ndirectory = "a"\n[plugins.archive-eu]\nuse = "archive"\ndirectory = "./a"\n'
    )

    message = "is the same as plugins.archive.directory; give each its own"
    assert found(config, "--offline") == ({"plugins.archive-eu.directory": message}, {})
    assert run_cli(["run", "-c", config]).returncode == 78


def test_constants_for_an_unknown_organisation_are_an_error(tmp_path: Path) -> None:
    """`run` says so with the same exit code; an organisation whose own table has a fault is known."""
    table = '[plugins.static_values.organisations.nope]\nsupport = "1"\n'
    path = "plugins.static_values.organisations.nope"
    assert found(write_config(tmp_path, table)) == ({path: 'unknown organisation "nope"; known: acme'}, {})
    assert run_cli(["run", "-c", tmp_path / "config.toml"]).returncode == 78

    errors, _ = found(write_config(tmp_path, f"[organisations.nope]\nsecrets = 5\n{table}"))
    assert errors.keys() == {"organisations.nope.secrets"}


def test_a_disk_without_room_is_an_error(tmp_path: Path) -> None:
    """Less free than `min_free`: the gateway would refuse every event."""
    errors, _ = found(write_config(tmp_path, '[journal]\nmin_free = "900000 GiB"\n'))

    assert "new events would get 503" in errors["journal.min_free"]


def test_a_journal_that_may_outgrow_its_disk_is_a_warning(tmp_path: Path) -> None:
    """It runs, but the limit would never be what stops it."""
    errors, warnings = found(write_config(tmp_path, '[journal]\nmax_size = "900000 GiB"\n'))

    assert errors == {}
    assert "the journal may grow to" in warnings["journal.max_size"]


def test_a_journal_on_a_network_file_system_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's write-ahead log needs a local one."""
    monkeypatch.setattr(check_environment, "_file_system", lambda folder: "nfs4")

    errors, _ = found(write_config(tmp_path))

    assert "is on a network file system (nfs4)" in errors["journal.path"]


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="only Linux tells")
def test_the_file_system_of_a_folder_is_known() -> None:
    """The innermost mount counts."""
    assert check_environment._file_system(Path("/proc/self")) == "proc"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    """Where the journal would be."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)

    errors, _ = found(write_config(tmp_path, '[journal]\npath = "closed/journal.db"\n'))

    assert f"the folder {folder} cannot be written to by this user" == errors["journal.path"]


def test_field_names_that_differ_by_case_are_a_warning(tmp_path: Path) -> None:
    """Names compare exactly, so one of the two is likely a slip."""
    config = write_config(tmp_path, "[values.fields.Balance]\n[values.fields.balance]\n")

    warnings: dict[str, Any] = found(config)[1]

    assert "differs from 'balance' by case only" in warnings["values.fields.Balance"]


SLIPS = """
    [values]
    nullable = ["typoo", "Saldo"]
    [values.fields.balence]
    required_key = "customer_uid"
    [values.fields.greeting]
    default = "Hello"
    [values.fields.balance]
    aliases = ["Saldo", "name"]
    [values.fields.hours]
    provider = "sql_values"
    [plugins.static_values.values]
    hours = "9 to 5"
    [plugins.sql_values]
    url = "sqlite:///customers.db"
    [[plugins.sql_values.queries]]
    sql = "SELECT balance, name FROM customers WHERE customer_uid = :customer_uid"
    """


def test_rules_that_do_nothing_are_warnings(tmp_path: Path) -> None:
    """The columns of a statement and the names of constants are what there is; a default needs no provider."""
    (tmp_path / "customers.db").write_bytes(_customers())

    errors, warnings = found(write_config(tmp_path, SLIPS))

    assert errors == {}
    assert warnings == {
        "values.nullable[0]": 'no provider gives "typoo", so this does nothing',
        "values.fields.balence": 'no provider gives "balence", so its rules do nothing',
        "values.fields.balance.aliases[1]": 'hides "name" that sql_values gives',
        "values.fields.hours": 'sql_values does not give "hours", so its rules do nothing',
    }


def test_rules_have_no_warnings_while_the_fields_of_a_provider_are_unknown(tmp_path: Path, site: Path) -> None:
    """It may give any field; and not while another fault says why the fields are unknown."""
    write_plugin(site, "crm", CHECKED.format(check="def custom_values(self, request): return {}"))
    (tmp_path / "customers.db").write_bytes(_customers())
    rules = "[values]\nnullable = ['typoo']\n[values.fields.balence]\nrequired_key = 'customer_uid'\n"

    assert found(write_config(tmp_path, rules + "[plugins.crm]\n[plugins.static_values]\n")) == ({}, {})
    config = write_config(tmp_path, SLIPS.replace("customers.db", "nowhere.db"))
    errors, warnings = found(config)
    assert (list(errors), warnings) == (["plugins.sql_values"], {})
    assert found(config, "--offline") == ({}, {})


@pytest.mark.parametrize(("length", "warned"), [(11, True), (12, False)])
def test_a_short_admin_password_is_a_warning(tmp_path: Path, length: int, warned: bool) -> None:
    """It guards customers' values; it is not shown."""
    config = write_config(tmp_path)
    config.write_text(config.read_text().replace("[admin]\n", '[admin]\npassword = { file = "admin.password" }\n'))
    (tmp_path / "admin.password").write_text("x" * length)
    (tmp_path / "admin.password").chmod(0o600)
    message = "file admin.password has 11 bytes; it protects customers' values, so use at least 12 bytes"

    assert found(config) == ({}, {"admin.password": message} if warned else {})
    assert found(config, "--offline")[1].keys() == found(config)[1].keys()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "gateway.internal"])
def test_a_short_admin_password_off_loopback_is_an_error(tmp_path: Path, host: str) -> None:
    """`check` and `run` exit 78; with 12 bytes there is no fault."""
    config = write_config(tmp_path)
    keys = f'[admin]\nhost = "{host}"\npassword = {{ file = "admin.password" }}\n'
    config.write_text(config.read_text().replace("[admin]\n", keys))
    (tmp_path / "admin.password").write_text("x" * 11)
    (tmp_path / "admin.password").chmod(0o600)
    message = "file admin.password has 11 bytes; off loopback it needs at least 12"

    assert found(config, "--offline") == ({"admin.password": message}, {})
    ran = run_cli(["run", "-c", config])
    assert (ran.returncode, f"admin.password: {message}" in ran.stderr) == (78, True)
    (tmp_path / "admin.password").write_text("x" * 12)
    assert found(config, "--offline") == ({}, {})


def test_an_admin_listener_off_loopback_needs_tls_or_a_proxy(tmp_path: Path) -> None:
    """Else there is a warning; and the files for TLS must be there."""
    (tmp_path / "one").write_text("x" * 12)
    (tmp_path / "one").chmod(0o600)
    keys = 'host = "0.0.0.0"\npassword = { file = "one" }\n'
    [(path, message)] = found(write_config(tmp_path, admin=keys))[1].items()
    assert (path, message.partition(":")[0]) == ("admin.host", "is not loopback, and there is no TLS")
    assert found(write_config(tmp_path, admin=f'{keys}trusted_proxies = ["10.0.0.1"]')) == ({}, {})
    errors, warnings = found(write_config(tmp_path, admin=f'{keys}tls = {{ certificate = "no", key = "no" }}'))
    assert (list(errors), warnings) == (["admin.tls.certificate"], {})


def test_the_viewers_password_is_another_one(tmp_path: Path) -> None:
    """Not the operator's, not the only one, not missing, and not short."""
    config = write_config(tmp_path, admin='password = { file = "one" }\nviewer_password = { file = "two" }')
    for name, text in (("one", "x" * 12), ("two", "x" * 12)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    same = "is the same as admin.password, so viewers could change things; choose another one"
    assert found(config) == ({"admin.viewer_password": same}, {})
    (tmp_path / "two").write_text("y" * 11)
    short = "file two has 11 bytes; it protects what happened to customers, so use at least 12 bytes"
    assert found(config) == ({}, {"admin.viewer_password": short})
    config.write_text(config.read_text().replace("[admin]\n", '[admin]\nhost = "0.0.0.0"\n'))
    short = "file two has 11 bytes; off loopback it needs at least 12"
    assert found(config, "--offline")[0] == {"admin.viewer_password": short}
    config.write_text(config.read_text().replace('password = { file = "one" }\n', "", 1))
    (tmp_path / "two").write_text("y" * 12)
    alone = 'is missing, and without it everyone may change things, viewers too; write password = { file = "path" }'
    assert found(config, "--offline")[0] == {"admin.password": alone}
    (tmp_path / "two").unlink()
    assert found(config, "--offline")[0].keys() == {"admin.viewer_password"}


def test_an_alias_that_differs_by_case_from_its_own_field_is_no_warning(tmp_path: Path) -> None:
    """It stands for the field itself. An alias of another field that differs by case is a warning."""
    config = write_config(tmp_path, '[values.fields.balance]\naliases = ["Balance", "BALANCE"]\n')
    assert found(config) == ({}, {})

    config = write_config(tmp_path, '[values.fields.balance]\n[values.fields.rate]\naliases = ["Balance"]\n')
    assert found(config)[1].keys() == {"values.fields.Balance"}


def test_no_secret_is_shown(tmp_path: Path) -> None:
    """Not even when it is what is wrong."""
    config = write_config(tmp_path)
    (tmp_path / "webio.secret").write_text("short-and-secret")

    output = check(config).output

    assert "has 16 bytes" in output
    assert "short-and-secret" not in output


def test_a_fault_of_a_statement_is_reported_at_its_key(tmp_path: Path) -> None:
    """By the settings' own check, and by the database's: each at its own path."""
    with closing(sqlite3.connect(tmp_path / "crm.db")) as database:
        database.execute("CREATE TABLE customers (uid TEXT, name TEXT)")
    text = """
        [plugins.crm]
        use = "sql_values"
        url = "sqlite:///crm.db"
        """
    statements = ("SELECT nam FROM customers WHERE uid = :customer_uid", "SELECT name FROM customers")
    queries = "".join(f"[[plugins.crm.queries]]\nsql = '{statement}'\n" for statement in statements)
    errors, _ = found(write_config(tmp_path, text + queries))
    assert errors == {
        "plugins.crm.queries[0].sql": "no such column: nam",
    }
    casts = "[[plugins.crm.queries]]\nsql = 'SELECT name FROM customers WHERE uid = :customer_uid + 0'\n"
    errors, _ = found(write_config(tmp_path, f'{text}recycle = "0s"\n{casts}'))
    assert list(errors) == ["plugins.crm.queries[0].sql", "plugins.crm.recycle"]
    assert errors["plugins.crm.recycle"] == "expected a duration longer than 0 s"


def test_a_secret_that_is_there_twice_is_a_warning(tmp_path: Path) -> None:
    """A rotation that changes nothing: both files have the same secret."""
    for name in ("one", "two"):
        (tmp_path / name).write_text("s" * 48)
        (tmp_path / name).chmod(0o600)
    text = '[organisations.other]\nsecrets = [{ file = "one" }, { file = "two" }]\n'
    errors, warnings = found(write_config(tmp_path, text), "--offline")
    assert errors == {}
    assert warnings == {"organisations.other.secrets[1]": "is the same secret as secrets[0]; leave one out"}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('[log]\nlevel = "postgresql://gateway:KEEPOUT@db/x"', "log.level"),
        ('[log]\nlevel = "Bearer KEEPOUT"', "log.level"),
        ('[log]\nlevel = "KEEPOUT7f3a9c2b1d8e4f60"', "log.level"),
        ('[journal]\nretention = "https://x/?token=KEEPOUT"', "journal.retention"),
        ('[values.fields.a]\nformat = "whsec_KEEPOUT"', "values.fields.a.format"),
        ('[plugins.a]\nuse = "redis://:KEEPOUT@h/0"', "plugins.a"),
        ('[plugins.a]\nuse = "http_values"\nrequests = [{ url = "http://u:KEEPOUT@h/", fields = { a = "/a" } }]',
         "plugins.a.requests[0].url"),
        ('[plugins.a]\nuse = "http_values"\nrequests = [{ url = "http://h/", fields = { a = "KEEPOUT" } }]',
         "plugins.a.requests[0].fields.a"),
        ('[plugins.a]\nuse = "http_values"\nheaders = { X-Api-Session = "KEEPOUT" }\n'
         'requests = [{ url = "http://h/", fields = { a = "/a" } }]', "plugins.a.headers.X-Api-Session"),
        ('[plugins.a]\nuse = "http_values"\nheaders = { X-Client = "Bearer KEEPOUT" }\n'
         'requests = [{ url = "http://h/", fields = { a = "/a" } }]', "plugins.a.headers.X-Client"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_what_may_be_a_secret_is_not_printed(tmp_path: Path, text: str, path: str, options: tuple[str, ...]) -> None:
    """A value at the wrong key that looks like a credential is an error at its place, without the value."""
    result = check(write_config(tmp_path, text), "--offline", *options)

    assert result.exit_code == 78
    assert path in result.output
    assert "KEEPOUT" not in result.output


def test_ordinary_values_are_shown(tmp_path: Path) -> None:
    """What does not look like a credential is found by its value."""
    for value in ("loud", "30 minutes and 10 seconds", "/var/log/gateway-2/events.log", "crm.internal.example.org"):
        assert (
            f'found \\"{value}\\"'
            in check(write_config(tmp_path, f'[log]\nlevel = "{value}"'), "--offline", "--json").output
        )


@pytest.mark.parametrize(
    ("allowed", "proxies", "warned"),
    [
        ("10.0.0.0/8", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.0/8", True),
        ("2001:db8::1", "2001:db8::/32", True),
        ("203.0.113.0/24", "10.0.0.1", False),
        ("0.0.0.0/0", "::1", False),
    ],
)
def test_an_address_that_is_allowed_and_a_proxy_is_a_warning(
    tmp_path: Path, allowed: str, proxies: str, warned: bool
) -> None:
    """The proxy's own address is never the client's."""
    config = write_config(
        tmp_path, f'trusted_proxies = ["{proxies}"]\nallowed_networks = ["192.0.2.0/24", "{allowed}"]\n'
    )
    errors, warnings = found(config, "--offline")
    assert not errors
    assert ("server.allowed_networks[1]" in warnings) == warned
    assert "server.allowed_networks[0]" not in warnings

"""Every command and every config snippet of the documents works: commands are run on a gateway that has received
events, snippets are read by the loader. What cannot be run here is named below, with the reason."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tomli
from cli_process import run_cli
from running import RunningGateway, eventually, running, write_config, write_plugin

from gateway.config.load import load_config
from gateway.plugin_host.load import load_plugins
from gateway.simulate import conversation, encode

ROOT = Path(__file__).parents[1]
TOP = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "deploy/README.md")
PAGES = [*(ROOT / name for name in TOP), *sorted((ROOT / "docs").rglob("*.md"))]
TRIED = "docs/tutorial.md"
"""Its commands and files are those of test_tutorial.py."""
MADE = {"docs/reference.md", "docs/configuration.md"}

NOT_RUN = {
    "run": "the gateway that the commands are tried on does it",
    "init && gateway run": "the same",
    "restore": "needs a stopped gateway: tests/cli/test_cli_backup.py",
    "restore FILE": "the same",
    "new-plugin NAME": "`new-plugin crm` is run",
    "journal copy --to var/journal.db": "needs a stopped gateway: tests/journal/test_copying.py",
    "journal copy --to postgresql://webio_owner@db.example.com/gateway --password-file owner.password": "the same",
    "journal adopt": "needs a journal in PostgreSQL",
    "journal upgrade": "needs a journal in PostgreSQL: tests/journal/test_postgresql_roles.py",
    "journal upgrade --url postgresql://webio_owner@db.example.com/gateway --password-file owner.password": "the same",
    "open": "opens a browser: tests/cli/test_cli_open.py",
    "journal check --repair": "needs a stopped gateway and a damaged journal: tests/journal/test_damage.py",
    "operations cancel 12": "there is nothing long to cancel: tests/conformance/test_operations.py",
    "token verify": "reads a token from the terminal; it is run with one",
    "ask --explain": "a part of a command, in a sentence",
    "timeline --json": "the same",
}
OTHER_PROGRAMS = {
    "make": "its targets are looked up in the Makefile",
    "source": "the environment of the tests is there already",
    "ls": "shows what is on the reader's disk",
    "python3": "makes an environment: tests/try_wheel.py does",
    "pip": "installs: tests/try_wheel.py and deploy/make_release.py do",
    "/opt/webio-gateway/bin/pip": "the same",
    "/opt/webio-gateway/bin/gateway": "writes into /etc; its words are parsed as those of `gateway`",
    "runuser": "needs root and another user; its words are parsed as those of `gateway`",
    "useradd": "changes the machine",
    "install": "changes the machine",
    "ln": "changes the machine",
    "cp": "changes the machine",
    "systemctl": "changes the machine; tests/test_deploy.py checks the units",
    "(umask": "makes a secret; tests/plugins/test_forward.py reads such a one",
    "sha256sum": "checks files of a release",
    "git": "tags and pushes a release",
    "gpg": "signs a release",
    "podman": "builds and runs an image",
}
WORDS = {"NAME": "archive", "UID": "123456", "EXPR": "payload.amount > 1"}
COMPLETE = {
    "docs/custom-values.md": '[plugins.crm]\nuse = "static_values"\nvalues = { balance = "1" }\n',
}
"""What a snippet takes for granted."""
SAMPLE = """
[values]
audit = true

[plugins.archive]
directory = "archive"

[plugins.crm]
use = "logging"
output = "crm.log"

[plugins.sql_events]
use = "logging"
output = "events.log"

[plugins.static_values.values]
balance = "120.50"
ID = "4711"
"""
LEDGER = """
    import msgspec

    class Plugin:
        class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
            path: str = "ledger.txt"

        def __init__(self, config: Config) -> None: ...

        def on_payment(self, event, payload) -> None: ...
"""


class Snippet(NamedTuple):
    """A block of code of a page."""

    page: str
    language: str
    text: str


def snippets(*languages: str) -> Iterator[Snippet]:
    for path in PAGES:
        page = str(path.relative_to(ROOT))
        for indent, language, text in re.findall(
            r"^( *)```(\w+)[^\n]*\n(.*?)^ *```", path.read_text(), re.MULTILINE | re.DOTALL
        ):
            if language in languages and page != TRIED:
                yield Snippet(page, language, re.sub(rf"^{indent}", "", text, flags=re.MULTILINE))


def shell_lines() -> list[str]:
    """Each command of each block, without its comment."""
    lines = (line for snippet in snippets("sh", "bash", "console") for line in snippet.text.splitlines())
    return sorted({re.split(r"\s{2,}#", line)[0].strip() for line in lines} - {""})


def gateway_commands() -> list[str]:
    """What stands after `gateway`, in blocks and between backticks."""
    inline = (
        words
        for path in PAGES
        if str(path.relative_to(ROOT)) not in MADE
        for words in re.findall(r"`gateway ([a-z][^`]*)`", " ".join(path.read_text().split()))
    )
    blocks = (line.removeprefix("gateway ") for line in shell_lines() if line.startswith("gateway "))
    return sorted({words.strip() for words in (*inline, *blocks)})


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """It has received an event of each hook, and its plugins have taken them."""
    folder = tmp_path_factory.mktemp("documents")
    with running(folder, SAMPLE) as started, started.client() as client:
        for _, body in conversation():
            client.post(encode(body))
        archive = folder / "archive" / "acme"
        eventually(lambda: archive.is_dir() and len(list(archive.iterdir())) == 8)
        yield started


@pytest.mark.parametrize("words", [words for words in gateway_commands() if words not in NOT_RUN])
def test_a_documented_command_works(gateway: RunningGateway, tmp_path: Path, words: str) -> None:
    """It exits 0 on a gateway that runs. Capital words stand for something that the reader puts there."""
    words, _, given = words.partition(" < ")
    arguments = [WORDS.get(word, word) for word in shlex.split(words)]
    copy = tmp_path / "copy.db"
    for number, word in enumerate(arguments):
        if word in ("FILE", "URL") or word.startswith("/var/backups/"):
            arguments[number] = str(copy)
        elif word == "ID":
            [event] = run_cli(["events", "--hook", "payment", "--json"], environment=named(gateway)).stdout.splitlines()
            arguments[number] = re.findall(r'"id":\s*"([^"]+)"', event)[0] if arguments[0] == "events" else word
    if arguments[:2] == ["check", "--backup"]:
        run_cli(["backup", copy], environment=named(gateway))
    token = run_cli(["token", "mint"], environment=named(gateway)).stdout if given else None

    done = run_cli(arguments, environment=named(gateway), directory=tmp_path, input=token)

    accepted = (0,) if re.search(r"[^a-z -]| -", words) else (0, 2)  # a command's name alone stands in a sentence
    assert done.returncode in accepted, f"gateway {' '.join(arguments)}\n{done.stdout}{done.stderr}"


def test_what_is_not_run_is_known() -> None:
    """A program that the documents call is run, or named with a reason; `make` has the target."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    mentioned = {name for path in PAGES for name in re.findall(r"`make ([a-z-]+)", path.read_text())}
    lines = [line for line in shell_lines() if not line.startswith("gateway ")]

    assert [line for line in lines if line.split()[0] not in OTHER_PROGRAMS] == []
    assert set(NOT_RUN) - set(gateway_commands()) == set(), "no document has these"
    assert set(OTHER_PROGRAMS) - {line.split()[0] for line in lines} == set(), "no document calls these"
    assert mentioned | {line.split()[1] for line in lines if line.startswith("make ")} <= targets


@pytest.mark.parametrize(
    "snippet",
    [snippet for snippet in snippets("toml") if not snippet.text.startswith("[project")],
    ids=lambda snippet: f"{snippet.page} {snippet.text.splitlines()[0].partition('  ')[0]}",
)
def test_a_config_snippet_is_accepted(
    snippet: Snippet, tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the loader, with what it takes for granted: the files of its secrets, and the plugin of the guide."""
    table = tomli.loads(snippet.text)
    for kind, name in secrets_in(table):
        value = f"whsec_{'A' * 43}=" if "forward" in name else "a secret of thirty-two bytes or more"
        if kind == "env":
            monkeypatch.setenv(name, value)
        else:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(value)
            (tmp_path / name).chmod(0o600)
    write_plugin(site, "ledger", LEDGER)
    for plugin in table.get("plugins", {}).values():
        if "file" in plugin:
            (tmp_path / plugin["file"]).write_text("class Plugin:\n    def on_payment(self, event): ...\n")
    patient = '\n[delivery]\nstartup_timeout = "110s"\n'  # the first import of a plugin, on a busy machine
    config = write_config(tmp_path, patient + snippet.text + COMPLETE.get(snippet.page, ""))

    loaded = load_plugins(load_config(config))

    assert {plugin.name for plugin in loaded} >= set(table.get("plugins", ()))


def secrets_in(value: Any) -> Iterator[tuple[str, str]]:
    """The files and variables that a table names: `{ file = ... }`, `{ env = ... }`."""
    if isinstance(value, dict):
        if value.keys() in ({"file"}, {"env"}) and all(isinstance(name, str) for name in value.values()):
            yield from value.items()
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from secrets_in(inner)


def named(gateway: RunningGateway) -> dict[str, str]:
    return {"GATEWAY_CONFIG": str(gateway.config_path)}

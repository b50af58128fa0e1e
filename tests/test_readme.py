"""What the documentation shows works as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tomli
from click.testing import CliRunner
from running import eventually, running, write_config, write_plugin

from gateway import Context, Event, Payment
from gateway.cli import cli
from gateway.config.load import load_config
from gateway.plugin_host.load import load_plugins
from gateway.simulate import body, encode

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SUBCOMMANDS = ("retry", "discard", "mint", "verify", "copy", "upgrade", "adopt")


def block(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def test_the_readmes_plugin_takes_a_payment(tmp_path: Path) -> None:
    """Copied from the page, installed, turned on with the table beside it."""
    [source] = block(README, "python")
    table = block(README, "toml")[1].replace("ledger.txt", str(tmp_path / "ledger.txt"))
    source = source.replace("class Ledger", "class Plugin")

    with running(tmp_path, table, plugins={"ledger": source}) as gateway, gateway.client() as client:
        answer = client.post(encode(body("payment")))
        eventually(lambda: (tmp_path / "ledger.txt").exists())

    assert (tmp_path / "ledger.txt").read_text() == f"{answer.document['id']} 123456 120.50\n"


def test_the_plugin_of_the_guide_is_accepted(tmp_path: Path, site: Path) -> None:
    """Its hooks and arguments are those of the contract."""
    source, _ = block((ROOT / "docs" / "plugins.md").read_text(), "python")
    write_plugin(site, "crm", source.replace("class Crm", "class Plugin"))
    config = write_config(tmp_path, '[plugins.crm]\nurl = "x"\npassword = { file = "webio.secret" }\n')

    [plugin] = load_plugins(load_config(config))

    assert plugin.hooks.keys() == {"startup", "on_event", "on_delivery_report", "custom_values"}


def test_the_tests_of_the_guide_pass(webio_gateway: Any, plugin_context: Context) -> None:
    """For a plugin that counts the payments it got."""

    class LedgerPlugin:
        class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
            database: Path

        def __init__(self, config: Config) -> None:
            self.seen: set[str] = set()

        def startup(self, context: Context) -> None: ...

        def on_payment(self, event: Event, payload: Payment) -> None:
            self.seen.add(event.id)

        def count(self) -> int:
            return len(self.seen)

    _, tests = block((ROOT / "docs" / "plugins.md").read_text(), "python")
    names: dict[str, Any] = {"LedgerPlugin": LedgerPlugin}
    exec(tests, names)

    names["test_a_payment_becomes_a_row"](webio_gateway)
    names["test_without_a_gateway"](plugin_context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_toml_is_toml_and_links_lead_somewhere(page: Path) -> None:
    """No page has a dead link into the repository, or a table that does not parse."""
    text = page.read_text()

    for table in block(text, "toml"):
        tomli.loads(table)
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_on_a_page_exists_with_its_options(page: Path) -> None:
    """`gateway ...` in a code block or between backticks is understood by the command line."""
    text = page.read_text()
    shell = [line.partition("  #")[0] for code in block(text, "sh") for line in code.splitlines()]
    inline = re.findall(r"`(gateway [a-z][^`\n]*)`", text)

    for command in [line for line in (*shell, *inline) if line.startswith("gateway ")]:
        for part in command.split("&&"):
            words = [word for word in shlex.split(part)[1:] if word.islower() or word.startswith("-")]
            names = [word for word in words if not word.startswith("-")]
            path = [*names[:1], *(name for name in names[1:2] if name in SUBCOMMANDS)]
            result = CliRunner().invoke(cli, [*path, "--help"])
            assert result.exit_code == 0, part
            for option in (word for word in words if word.startswith("--")):
                assert option in result.output, part


def test_the_benchmarks_that_are_named_are_there() -> None:
    """On their page, and in the Makefile, whose targets are in its help."""
    makefile = (ROOT / "Makefile").read_text()
    page = (ROOT / "docs" / "benchmarks.md").read_text()

    for script in {*re.findall(r"benchmarks/(\w+\.py)", makefile), *re.findall(r"`(\w+\.py)`", page)}:
        assert (ROOT / "benchmarks" / script).exists(), script
    for target in re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split():
        assert re.search(rf"^{target}:.*  ## \w", makefile, re.MULTILINE), target
    for target in re.findall(r"`make (\w+)`", page):
        assert f"\n{target}:" in makefile

"""`gateway plugins NAME`: what a plugin's settings are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from running import write_config, write_plugin

import gateway
from gateway.cli import cli

DOCS = Path(gateway.__file__).parent.parent / "docs" / "plugins-bundled"
BUNDLED = sorted(path.stem for path in DOCS.glob("*.md"))

SHOP = """
    from __future__ import annotations

    from pathlib import Path
    from typing import Annotated, Any, Literal

    import msgspec
    from gateway import Duration, ExclusivePath, Secret, Size

    class Sku:
        @classmethod
        def from_config(cls, value, directory):
            return cls()

    class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        sku: Annotated[Sku, msgspec.Meta(description="What it is about.")]
        share: float = 0.5

    class Plugin:
        class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
            url: Annotated[str, msgspec.Meta(description="The address of the shop, http | https.")]
            rules: Annotated[tuple[Rule, ...], msgspec.Meta(description="The rules.")] = ()
            named: Annotated[dict[str, Rule] | None, msgspec.Meta(description="More rules.")] = None
            key: Annotated[Secret | None, msgspec.Meta(description="The key.")] = None
            folder: Annotated[ExclusivePath, msgspec.Meta(description="Its folder.")] = Path("shop")
            wait: Duration = Duration(90)
            pause: Duration = Duration(0.25)
            most: Size = Size(3 * 2**20)
            retries: Annotated[int, msgspec.Meta(ge=0, le=9, description="How often.")] = 3
            mode: Literal["fast", "safe"] = "safe"
            either: bool | int = True
            texts: dict[str, str] = msgspec.field(default_factory=lambda: {"a": "b"})

        def __init__(self, config): ...
"""
EXPECTED = [
    ("url", "text", True, None, "The address of the shop, http | https."),
    ("rules", "array of table", False, "[]", "The rules."),
    ("rules[].sku", "sku", True, None, "What it is about."),
    ("rules[].share", "number", False, "0.5", None),
    ("named", "table of table", False, None, "More rules."),
    ("named.NAME.sku", "sku", True, None, "What it is about."),
    ("named.NAME.share", "number", False, "0.5", None),
    ("key", "secret", False, None, "The key."),
    ("folder", "path", False, '"shop"', "Its folder."),
    ("wait", "duration", False, '"90s"', None),
    ("pause", "duration", False, '"250ms"', None),
    ("most", "size", False, '"3 MiB"', None),
    ("retries", "integer from 0 to 9", False, "3", "How often."),
    ("mode", '"fast" or "safe"', False, '"safe"', None),
    ("either", "true or false or integer", False, "true", None),
    ("texts", "table of text", False, '{ a = "b" }', None),
]


def plugins(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["plugins", *arguments, "-c", str(config)])


@pytest.fixture
def shop(tmp_path: Path, site: Path) -> Path:
    """A config that uses the plugin `shop` under another name, and has a fault."""
    write_plugin(site, "shop", SHOP)
    return write_config(tmp_path, "[plugins.store]\nuse = 'shop'\nurl = 5\n[servr]\n")


@pytest.mark.parametrize("name", ["shop", "store"])
def test_every_key_with_type_default_and_meaning(shop: Path, name: str) -> None:
    """Also those of tables in tables; of a table of the config and of an installed plugin, whatever is wrong with the
    config."""
    document = json.loads(plugins(shop, name, "--json").stdout)
    assert (document["name"], document["plugin"]) == (name, "shop")
    found = [
        tuple(one[key] for key in ("key", "type", "required", "default", "meaning")) for one in document["settings"]
    ]
    assert found == EXPECTED


def test_as_a_table(shop: Path) -> None:
    """For people, and in Markdown; a `|` does not end a cell there."""
    lines = plugins(shop, "shop").stdout.splitlines()
    assert re.split(r"  +", lines[0]) == ["key", "type", "default", "meaning"]
    assert re.split(r"  +", lines[1]) == ["url", "text", "required", "The address of the shop, http | https."]
    markdown = plugins(shop, "shop", "--markdown").stdout.splitlines()
    assert markdown[:3] == [
        "| key | type | default | meaning |",
        "|---|---|---|---|",
        "| `url` | text | required | The address of the shop, http \\| https. |",
    ]
    assert "| `key` | secret | | The key. |" in markdown
    assert '| `wait` | duration | `"90s"` | |' in markdown
    assert "concurrency" in plugins(shop, "shop").stderr


def test_described_fields_are_checked_like_others(tmp_path: Path, site: Path) -> None:
    """A description changes nothing: each fault has its own path, limits hold, and folders are exclusive."""
    write_plugin(site, "shop", SHOP)
    text = (
        "[plugins.shop]\nurl = 'a'\nrules = [{ sku = 1 }, { skuu = 1 }]\nnamed.a.share = 'x'\nretries = 10\n"
        "[plugins.one]\nuse = 'shop'\nurl = 'a'\nfolder = 'x'\nretries = 9\n"
        "[plugins.two]\nuse = 'shop'\nurl = 'a'\nfolder = './x'\n"
    )
    result = CliRunner().invoke(
        cli, ["check", "--offline", "--json", "-c", str(write_config(tmp_path, text))], catch_exceptions=False
    )
    assert [(one["path"], one["message"]) for one in json.loads(result.stdout)["errors"]] == [
        ("plugins.shop.rules[1].skuu", 'unknown key; did you mean "sku"?'),
        ("plugins.shop.rules[1].sku", "is missing"),
        ("plugins.shop.named.a.sku", "is missing"),
        ("plugins.shop.named.a.share", 'expected a number, found "x"'),
        ("plugins.shop.retries", "expected an integer <= 9, found 10"),
        ("plugins.two.folder", "is the same as plugins.one.folder; give each its own"),
    ]


def test_of_a_plugin_in_a_file(tmp_path: Path) -> None:
    """By the name of its table."""
    (tmp_path / "till.py").write_text("class Till:\n    def on_payment(self, event, payload): ...\n")
    (tmp_path / "till.py").chmod(0o600)
    result = plugins(write_config(tmp_path, "[plugins.till]\nfile = 'till.py'\n"), "till")
    assert result.exit_code == 0
    assert "till has no settings of its own" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["archiv"], 1, 'no plugin "archiv" is installed; did you mean "archive"?'),
        (["--markdown"], 2, "--markdown needs the NAME of a plugin or --catalogue, and excludes --json"),
        (
            ["archive", "--markdown", "--json"],
            2,
            "--markdown needs the NAME of a plugin or --catalogue, and excludes --json",
        ),
    ],
)
def test_what_cannot_be_shown(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    """A sentence and an exit code."""
    result = plugins(write_config(tmp_path), *arguments)
    assert result.exit_code == code
    assert message in result.output


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_plugins_settings_are_described_and_documented(tmp_path: Path, name: str) -> None:
    """Every key has a meaning that is a sentence, and the plugin's page has the table as it is printed."""
    config = write_config(tmp_path)
    settings: list[dict[str, Any]] = json.loads(plugins(config, name, "--json").stdout)["settings"]
    assert settings
    for one in settings:
        assert re.fullmatch(r".*\.", one["meaning"] or ""), one
    table = plugins(config, name, "--markdown").stdout
    page = (DOCS / f"{name}.md").read_text()
    assert table in page, f"docs/plugins-bundled/{name}.md differs from `gateway plugins {name} --markdown`"


def test_every_bundled_plugin_has_a_page(tmp_path: Path) -> None:
    """All that the distribution installs."""
    rows = map(json.loads, plugins(write_config(tmp_path), "--json").stdout.splitlines())
    assert sorted(row["name"] for row in rows if row["distribution"] == "webio-gateway") == BUNDLED

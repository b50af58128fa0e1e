"""`gateway new-plugin`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from gateway.cli.failures import Failure
from gateway.cli.options import config_option, json_option
from gateway.cli.output import print_json

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*", re.ASCII)
_LONGEST: Final = 40
_TEMPLATES: Final = Path(__file__).parent / "plugin_template"


@click.command("new-plugin")
@click.argument("name")
@click.option("--values", is_flag=True, help="A plugin that answers custom values, instead of one that takes events.")
@config_option
@json_option
def command(name: str, values: bool, config_path: Path, as_json: bool) -> None:
    """Write a package with a plugin to start from, into the new folder NAME.

    It has a plugin that works, its tests, a snippet for config.toml and a README. Needs no network and changes no file
    that exists.

    \b
    Examples:
      gateway new-plugin ledger
      gateway new-plugin balances --values
    """
    _require_usable(name)
    module = f"gateway_{name.replace('-', '_')}"
    words = {"@NAME@": name, "@MODULE@": module, "@CLASS@": _class_name(name)}
    kind = "values" if values else "events"
    files = {
        "pyproject.toml": "pyproject.toml",
        f"{module}/__init__.py": f"{kind}.py",
        f"tests/test_{module}.py": f"test_{kind}.py",
        "config-snippet.toml": f"{kind}.toml",
        "README.md": "README.md",
    }
    texts = {path: _filled(template, words) for path, template in files.items()}
    folder = Path(name)
    try:
        folder.mkdir()
        for path, text in texts.items():
            (folder / path).parent.mkdir(exist_ok=True)
            with (folder / path).open("x", encoding="utf-8") as file:
                file.write(text)
        (folder / module / "py.typed").touch()
    except FileExistsError:
        raise Failure(f"{folder} exists already; nothing was written") from None
    except OSError as error:
        raise Failure(f"cannot write {error.filename or folder}: {error.strerror}") from None
    made = [*texts, f"{module}/py.typed"]
    if as_json:
        print_json({"plugin": name, "folder": str(folder), "files": made})
        return
    for path in made:
        click.echo(f"wrote {folder / path}")
    click.echo(f"next: cd {folder} && python -m pytest", err=True)


def _require_usable(name: str) -> None:
    from gateway.plugin_host.sources import distribution_of, installed

    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        expected = f"expected at most {_LONGEST} lower-case letters and digits, with single '-' or '_' between them"
        raise click.BadParameter(f"{expected}, beginning with a letter; found {name!r}", param_hint="NAME")
    if entries := installed().get(name):
        raise Failure(f"a plugin {name} is installed already, by {distribution_of(entries[0])[0]}; choose another name")


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in re.split("[_-]", name)) + "Plugin"


def _filled(template: str, words: dict[str, str]) -> str:
    text = (_TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")
    for mark, word in words.items():
        text = text.replace(mark, word)
    return text

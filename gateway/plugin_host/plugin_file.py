"""A plugin in one file beside the config: `file = "ledger.py"` in its table."""

from __future__ import annotations

import hashlib
import inspect
import os
import stat
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

from gateway.plugin_host.place import place_of
from gateway.text import describe

NAME: Final = "Plugin"
"""The class of a file that has several."""


class PluginFile(NamedTuple):
    """A file with a plugin's class, and its path as the config has it."""

    path: Path
    shown: str


def file_of(path: Path, directory: Path) -> PluginFile:
    """The file of a table; `directory` is the config file's."""
    return PluginFile(path, str(path.relative_to(directory) if path.is_relative_to(directory) else path))


def import_file(file: PluginFile) -> Any:
    """The plugin's class: `Plugin`, or the only class of the file with hooks of events or values. A file that has not
    changed since it was imported is not run again. `LookupError` with a sentence for the operator."""
    place = Path(os.path.realpath(file.path))
    source = _read(file, place)
    name = f"{module_prefix(place)}_{hashlib.sha256(source + os.fsencode(place)).hexdigest()[:16]}"
    module = sys.modules.get(name) or _run(file, place, source, name)
    return _class_of(file, module)


def module_prefix(path: Path) -> str:
    """What the name of a file's module begins with."""
    return "plugin_file_" + "".join(letter if letter.isalnum() else "_" for letter in path.stem)


def _read(file: PluginFile, place: Path) -> bytes:
    """The text of the file. What others may write could be anybody's code, with the rights of the gateway."""
    try:
        for folder in {file.path.parent, place.parent}:
            _refuse_writable(f"the folder {folder}", stat.S_IMODE(folder.stat().st_mode))
        with open(place, "rb", opener=_without_waiting) as opened:
            about = os.fstat(opened.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise LookupError(f"{file.shown} is not a file: expected a file with the plugin's class")
            _refuse_writable(f"the file {file.path}", stat.S_IMODE(about.st_mode))
            return opened.read()
    except (FileNotFoundError, NotADirectoryError):
        raise LookupError(f"the file {file.path} does not exist; the path is relative to the config file") from None
    except IsADirectoryError:
        raise LookupError(f"{file.shown} is a folder: expected a file with the plugin's class") from None
    except OSError as error:
        raise LookupError(f"the file {file.path} cannot be read: {error.strerror}") from None


def _without_waiting(path: str, flags: int) -> int:
    """A pipe must not hold up the start."""
    return os.open(path, flags | os.O_NONBLOCK)


def _refuse_writable(what: str, mode: int) -> None:
    if mode & 0o022:
        message = f"others may write {what} (mode {mode:04o}), and so run code in the gateway"
        raise LookupError(f"{message}; `chmod go-w` it")


def _run(file: PluginFile, place: Path, source: bytes, name: str) -> ModuleType:
    """Run the file as a module. It is registered while it runs, because msgspec looks the types of a `Config` up in its
    module."""
    module = ModuleType(name)
    module.__file__ = str(place)
    sys.modules[name] = module
    try:
        exec(compile(source, place, "exec", dont_inherit=True), vars(module))  # noqa: S102
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        where = "" if isinstance(error, SyntaxError) else f" at {place_of(error, name)}"
        raise LookupError(f"{file.shown} cannot be imported: {describe(error, None)}{where}") from error
    return module


def _class_of(file: PluginFile, module: ModuleType) -> Any:
    if hasattr(module, NAME):
        return getattr(module, NAME)
    own = [kind for kind in vars(module).values() if inspect.isclass(kind) and kind.__module__ == module.__name__]
    found = [kind for kind in dict.fromkeys(own) if any(map(_is_hook, dir(kind)))]
    if len(found) == 1:
        return found[0]
    expected = f"expected a class named {NAME}, or one class with a hook such as on_event or custom_values"
    if not found:
        raise LookupError(f"{file.shown} has no plugin class: {expected}")
    names = ", ".join(kind.__name__ for kind in found)
    raise LookupError(f"{file.shown} has several classes with hooks ({names}); name the plugin's class {NAME}")


def _is_hook(method: str) -> bool:
    """Whether only a plugin has such a method: others may have a `check` or a `startup`, too."""
    return method.startswith("on_") or method == "custom_values"

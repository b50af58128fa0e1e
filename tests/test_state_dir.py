"""`context.state_dir`: a folder of each plugin instance's own."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest
from running import running

from gateway import Context

COUNTER = """
from gateway import Context, hookimpl

class Plugin:
    @hookimpl
    def startup(self, context: Context) -> None:
        file = context.state_dir / "starts"
        number = int(file.read_text()) + 1 if file.exists() else 1
        file.write_text(str(number))
        print(context.name, "start", number, flush=True)
"""
NONE = """
class Plugin:
    def startup(self, context): ...
"""


def test_each_instance_keeps_its_own_state(tmp_path: Path) -> None:
    """Beside the journal, for the gateway's user only, from start to start. A plugin that does not ask has none."""
    tables = '[plugins.counter]\n[plugins.second]\nuse = "counter"\n[plugins.none]\n'
    journal = '[journal]\npath = "data/journal.db"\n'
    with running(tmp_path, journal + tables, plugins={"counter": COUNTER, "none": NONE}) as gateway:
        for name in ("counter", "second"):
            gateway.wait_for_line(f"{name} start 1")
        assert gateway.stop() == 0
        (tmp_path / "data" / "plugins" / "second" / "starts").unlink()
        seen = len(gateway.output)
        gateway.start()
        gateway.wait_for_line("counter start 2", after=seen)
        gateway.wait_for_line("second start 1", after=seen)
    folders = tmp_path / "data" / "plugins"
    assert sorted(path.name for path in folders.iterdir()) == ["counter", "second"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folders, *folders.iterdir())} == {0o700}


def test_a_folder_that_cannot_be_made_fails_the_startup(tmp_path: Path) -> None:
    """The startup is tried again, and succeeds once the folder can be made."""
    (tmp_path / "plugins").write_text("a file is in the way")
    text = '[journal]\npath = "journal.db"\n[plugins.counter]\nbackoff = "50ms"\nbackoff_max = "50ms"\n'
    with running(tmp_path, text, plugins={"counter": COUNTER}) as gateway:
        gateway.wait_for_line("plugin counter: startup failed: FileExistsError")
        (tmp_path / "plugins").unlink()
        gateway.wait_for_line("counter start 1")


def test_a_context_of_a_test_has_the_folder_that_it_is_given(tmp_path: Path) -> None:
    """With any umask; without a folder the error says how to give it one."""
    log = logging.getLogger("plugins.crm")
    context = Context(name="crm", log=log, directory=tmp_path, organisations=("acme",), state=tmp_path / "a" / "crm")
    before = os.umask(0)
    try:
        assert context.state_dir == tmp_path / "a" / "crm"
    finally:
        os.umask(before)
    assert stat.S_IMODE(context.state_dir.stat().st_mode) == 0o700
    with pytest.raises(ValueError, match="this context has no folder"):
        _ = Context(name="crm", log=log, directory=tmp_path, organisations=("acme",)).state_dir

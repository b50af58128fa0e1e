"""Which kind of `Operations` a command works with: on a journal in a file, or in a database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.changes import Operations
from gateway.cli.filters import require_known
from gateway.cli.shared_changes import SharedOperations

if TYPE_CHECKING:
    from gateway.config.tables import Config
    from gateway.journal.interface import Filter


def open_operations(config_path: Path, which: Filter) -> Operations:
    """The operations on the journal of a config, for a filter whose names the config or the journal knows."""
    from gateway.config.load import load_config

    config = load_config(config_path, secrets=False)
    require_known(config, which.organisation, which.plugin)
    return operations_of(config)


def operations_of(config: Config) -> Operations:
    """The operations on the journal of a config, for the command that runs."""
    kind = Operations if config.journal.url is None else SharedOperations
    return kind(config, f"`{click.get_current_context().command_path}`")

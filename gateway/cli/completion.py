"""`gateway completion`."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import get_completion_class

from gateway.cli.options import config_option


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@config_option
@click.pass_context
def command(context: click.Context, shell: str, config_path: Path) -> None:
    """Print the script with which SHELL completes the commands and options of gateway.

    Write it to where the shell looks for such scripts: bash in ~/.local/share/bash-completion/completions/gateway, zsh
    in a file _gateway in a folder of $fpath, fish in ~/.config/fish/completions/gateway.fish.

    \b
    Examples:
      gateway completion bash > gateway.bash
      eval "$(gateway completion bash)"          for this shell only
    """
    script = get_completion_class(shell)
    if script is None:
        raise RuntimeError(f"click has no completion for {shell}")
    root = context.find_root().command
    click.echo(script(root, {}, "gateway", "_GATEWAY_COMPLETE").source())

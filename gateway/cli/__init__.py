"""The command line `gateway`: a module per command, imported when the command is called."""

from __future__ import annotations

import difflib
import importlib
import sys
from typing import Any, Final

import click

from gateway.cli.options import config_option

SECTIONS: Final = {
    "Set up and run": {
        "init": "Write config.toml, its secrets and a sample database; never overwrite.",
        "check": "Find every fault of the configuration.",
        "run": "Serve until SIGTERM or Ctrl-C.",
        "open": "Open the dashboard of the running gateway, signed in.",
        "reload": "Put a changed config in force without a restart.",
        "nodes": "List the gateways that run on this journal.",
        "log-level": "Change how much the running gateway logs.",
        "plugins": "List what is installed and what is enabled.",
        "new-plugin": "Write a package with a plugin to start from.",
        "token": "Make a token, or tell why one is refused.",
        "completion": "Print the script that completes commands in a shell.",
    },
    "Try it out": {
        "send": "Send the gateway a realistic event.",
        "ask": "Ask for custom values, as Webio's bot does.",
        "filter": "Try an expression for `where` on what was received.",
    },
    "Inspect and repair": {
        "events": "List, show and export what was received.",
        "timeline": "Tell what happened to a customer or in a conversation.",
        "values": "List custom value requests and how they were answered.",
        "dead": "List dead letters; retry or discard them.",
        "replay": "Deliver a range of events to one plugin again.",
        "operations": "List retries, discards, replays and erasures; cancel one.",
        "forget": "Erase a customer, an address or a conversation everywhere.",
        "journal": "Look for damage in the journal, and repair it.",
        "backup": "Copy the journal to a file, while the gateway runs.",
        "restore": "Put a backup in the journal's place.",
    },
}


class Commands(click.Group):
    """Lists the commands by name, so that `--help` imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in SECTIONS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"gateway.cli.{cmd_name.replace('-', '_')}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            if not close:
                raise
            message = f"{error.message.rstrip('.')}; did you mean {close[0]!r}?"
            raise click.UsageError(message, ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(list(section.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            from gateway.cli.failures import expected, unexpected

            failure = expected(error)
            if failure is None and ctx.params["debug"]:
                raise
            raise failure or unexpected(error) from error
        finally:
            sys.stdout.flush()  # a closed pipe raises BrokenPipeError here, which click handles without a message


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 78 bad configuration.",
)
@click.version_option(package_name="webio-gateway", prog_name="gateway", message="%(prog)s %(version)s")
@config_option
@click.option("--debug", is_flag=True, envvar="GATEWAY_DEBUG", help="Show the traceback of an unexpected error.")
def cli(debug: bool, **_: object) -> None:
    """Receive what Webio sends, keep it on disk, deliver it to plugins, and answer Webio's bots.

    \b
    A first try:
      gateway init                  config.toml, its secrets and a sample database
      gateway run                   serve; then, in another terminal:
      gateway send --all            one event of each kind
      gateway ask balance ID --customer 123456
      gateway events                what was received
    """


def main() -> None:
    """The console script `gateway`."""
    try:
        sys.exit(cli.main(prog_name="gateway", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)

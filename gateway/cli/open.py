"""`gateway open`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from gateway.cli.options import config_option, json_option
from gateway.cli.output import on_terminal, print_json


@click.command("open")
@click.option("--print", "print_only", is_flag=True, help="Print the link only, and open no browser.")
@config_option
@json_option
def command(print_only: bool, config_path: Path, as_json: bool) -> None:
    """Open the dashboard of the running gateway, signed in.

    Prints a link that signs in once, within 5 minutes, and opens it in the browser where there is one. Whoever has the
    link is signed in as an operator. While a browser starts, other users of this machine may see its address in the
    list of processes: use --print there. In a pipe and with --json nothing is opened. On another machine: `ssh -L
    8081:127.0.0.1:8081 HOST`, `gateway open --print` there, and the link in the browser here.

    \b
    Examples:
      gateway open
      gateway open --print
    """
    from gateway.cli.admin_client import base_url, request_running
    from gateway.config.load import load_config

    config = load_config(config_path)
    path = request_running(config, "POST", "/api/sign-in-link", {})["path"]
    url = base_url(config) + path
    if as_json:
        print_json({"url": url})
        return
    click.echo(url)
    if not print_only and on_terminal() and _has_a_browser():
        import webbrowser

        webbrowser.open(url)


def _has_a_browser() -> bool:
    """Whether there is a screen to open a browser on; one in the terminal would take it over."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))

"""A program for each event: the event on its standard input, its exit code as the answer."""

from gateway_exec.plugin import ExecPlugin

__all__ = ["ExecPlugin"]

TIER = "complete"

"""Processes, sockets and HTTP servers."""

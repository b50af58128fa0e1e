"""The supervisor and the worker process, the listening sockets, and HTTP on each connection."""

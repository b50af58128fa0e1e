"""Changes a gateway's own processes for a test: a wall clock that is wrong, or a negative control. Python imports it at
its start, where this folder is on its path."""

import importlib
import os
import time

if offset := int(os.environ.get("CLUSTER_CLOCK", "0")):
    _time, _time_ns = time.time, time.time_ns
    time.time = lambda: _time() + offset
    time.time_ns = lambda: _time_ns() + offset * 10**9
if patch := os.environ.get("CLUSTER_PATCH", ""):
    importlib.import_module(patch)

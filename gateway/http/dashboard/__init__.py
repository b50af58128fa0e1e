"""The dashboard: pages on the admin listener that a browser shows without another network or a build. They work without
a script; with it they are live."""

from __future__ import annotations

from typing import Any

from gateway.http.access import Access
from gateway.http.api.context import AdminContext
from gateway.http.api.operations import OperationLog
from gateway.http.dashboard.changes import change_routes
from gateway.http.dashboard.config_pages import config_routes
from gateway.http.dashboard.drift_page import drift_routes
from gateway.http.dashboard.event_pages import event_routes
from gateway.http.dashboard.find_pages import find_routes
from gateway.http.dashboard.now_page import now_routes
from gateway.http.dashboard.operation_pages import operation_page_routes
from gateway.http.dashboard.rendering import Renderer, static_routes
from gateway.http.dashboard.sign_in import sign_in_routes
from gateway.http.dashboard.timeline_page import timeline_routes
from gateway.http.dashboard.trouble_pages import trouble_routes
from gateway.http.dashboard.values_page import values_routes


def dashboard_routes(context: AdminContext, operations: OperationLog, access: Access) -> list[Any]:
    """The handlers of the pages."""
    renderer = Renderer(context, access)
    return [
        *static_routes(),
        *sign_in_routes(renderer),
        *change_routes(renderer),
        *now_routes(renderer),
        *values_routes(renderer),
        *drift_routes(renderer),
        *config_routes(renderer),
        *find_routes(renderer),
        *event_routes(renderer, operations),
        *timeline_routes(renderer),
        *trouble_routes(renderer, operations),
        *operation_page_routes(renderer, operations),
    ]

"""The API of the admin listener: what pages and programs read and change, as JSON."""

from __future__ import annotations

from typing import Any

from gateway.http.api.context import AdminContext
from gateway.http.api.events import event_routes
from gateway.http.api.nodes import node_routes
from gateway.http.api.openapi import openapi_routes
from gateway.http.api.operations import OperationLog, operation_routes
from gateway.http.api.overview import overview_routes
from gateway.http.api.status import status_routes


def api_routes(context: AdminContext, operations: OperationLog) -> list[Any]:
    """The handlers of the API."""
    return [
        *status_routes(context),
        *event_routes(context, operations),
        *overview_routes(context),
        *operation_routes(context, operations),
        *node_routes(context),
        *openapi_routes(),
    ]

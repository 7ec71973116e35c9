"""The types of resources that the builtin engine serves, by Terraform's names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack.deploy.builtin.types import (
    compute,
    identity,
    iot,
    messaging,
    monitoring,
    secrets,
    storage,
    streams,
    timeseries,
)

if TYPE_CHECKING:
    from stack.deploy.builtin.resource import Resource

TYPES: dict[str, Resource] = {
    **identity.TYPES,
    **messaging.TYPES,
    **storage.TYPES,
    **streams.TYPES,
    **timeseries.TYPES,
    **secrets.TYPES,
    **compute.TYPES,
    **monitoring.TYPES,
    **iot.TYPES,
}

"""Signals of a device that travels a route of its class."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from simulator.signals.base import Floats, Readings, Signal


class RouteSignal(Signal):
    """What a route gives: two signals with the same `route` are one position.

    Attributes:
        route: Name of a route of the class.
        gives: Which of its values; degrees, for `distance` kilometres since the run's start, for
            `speed` km/h.
    """

    model: Literal["route"]
    route: str
    gives: Literal["latitude", "longitude", "heading", "distance", "speed"]
    decimals: Annotated[int, Field(ge=0, le=6)] = 6

    def values(self, at: Readings) -> Floats:
        """See `Signal`."""
        route = at.devices.scene.routes[self.route]
        if self.gives == "distance":
            return route.travelled_m(at, self.route) / 1000
        if self.gives == "speed":
            return route.speed_of(at, self.route)
        latitude, longitude, heading = route.position(at, self.route)
        return {"latitude": latitude, "longitude": longitude, "heading": heading}[self.gives]

    def bounds(self) -> tuple[float, float] | None:
        """See `Signal`."""
        return {
            "latitude": (-90.0, 90.0),
            "longitude": (-180.0, 180.0),
            "heading": (0.0, 360.0),
        }.get(self.gives)

"""Routes that devices travel: where a device is at a time, as a pure function of both.

The signals of a route (latitude, longitude, heading, distance) ask the same function, so they agree
with one another whatever order they are asked in. Lines between points are straight on the map;
lengths are great circles.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from simulator import noise
from simulator.parameters import NotNegative, Parameter, Positive, fixed

if TYPE_CHECKING:
    from simulator.signals.base import Readings

Floats = NDArray[np.float64]

EARTH_M = 6_371_008.8
METRES_PER_DEGREE = EARTH_M * np.pi / 180
_PLACE = Parameter("uniform", (0.0, 1.0), 0.0, 1.0)
Latitude = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
Longitude = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]


class Route(BaseModel):
    """A way over the earth.

    Attributes:
        points: [latitude, longitude] in degrees.
        speed_kmh: How fast it is travelled.
        end: At the last point: `loop` goes on to the first, `back` turns round, `stop` stays.
        stagger: Whether devices start at places of their own, or all at the first point.
        jitter_m: Error of the position, metres in each direction.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    points: Annotated[list[tuple[Latitude, Longitude]], Field(min_length=2, max_length=100_000)]
    speed_kmh: Positive
    end: Literal["loop", "back", "stop"] = "loop"
    stagger: bool = True
    jitter_m: NotNegative = fixed(0.0)

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if self.length_m <= 0:
            raise ValueError("all points are the same: a route needs a length")
        return self

    @cached_property
    def _way(self) -> tuple[Floats, Floats, Floats]:
        """(metres from the start, latitude, longitude) of each point, longitudes without jumps."""
        points = [*self.points, self.points[0]] if self.end == "loop" else self.points
        lat, lon = np.array(points, dtype=np.float64).T
        lon = lon[0] + np.concatenate([[0.0], np.cumsum((np.diff(lon) + 180) % 360 - 180)])
        north, east = np.radians(lat), np.radians(lon)
        chord = (
            np.sin(np.diff(north) / 2) ** 2
            + np.cos(north[:-1]) * np.cos(north[1:]) * np.sin(np.diff(east) / 2) ** 2
        )
        steps_m = 2 * EARTH_M * np.arcsin(np.sqrt(np.minimum(chord, 1.0)))
        return np.concatenate([[0.0], np.cumsum(steps_m)]), lat, lon

    @property
    def length_m(self) -> float:
        """Metres of the whole way; of a loop, with the way back to the first point."""
        return float(self._way[0][-1])

    def travelled_m(self, at: Readings, name: str) -> Floats:
        """How far devices have come since the run's start, metres; shape (n,)."""
        speed = self.speed_of(at, name)
        travelled: Floats = speed / 3.6 * at.at_s
        if self.end == "stop":
            travelled = np.minimum(travelled, self.length_m - self._begun_m(at, name))
        return travelled

    def _begun_m(self, at: Readings, name: str) -> Floats:
        if not self.stagger:
            return np.zeros(len(at))
        begun: Floats = self._own(at, name, "begun", _PLACE) * self.length_m
        return begun

    def speed_of(self, at: Readings, name: str) -> Floats:
        """Speeds of devices, km/h; shape (n,)."""
        return self._own(at, name, "speed_kmh", self.speed_kmh)

    @staticmethod
    def _own(at: Readings, name: str, what: str, parameter: Parameter) -> Floats:
        """What a device draws for the route, whichever of its signals asks."""
        devices = at.devices
        stream = noise.purpose(devices.seed, "route", devices.names[0], name, what)
        own = devices.each(f"{name}.{what}", lambda device: parameter.draw(stream, device))
        return own[at.device]

    def position(self, at: Readings, name: str) -> tuple[Floats, Floats, Floats]:
        """(latitude, longitude, heading) of readings in degrees; shapes (n,).

        Args:
            at: The readings.
            name: The route's name in its class, for what each device draws.
        """
        along_m = self._begun_m(at, name) + self.travelled_m(at, name)
        backwards = np.zeros(len(at), dtype=np.bool_)
        if self.end == "loop":
            along_m %= self.length_m
        elif self.end == "back":
            along_m %= 2 * self.length_m
            backwards = along_m > self.length_m
            along_m = np.where(backwards, 2 * self.length_m - along_m, along_m)
        marks, lat, lon = self._way
        where = np.clip(np.searchsorted(marks, along_m, side="right") - 1, 0, len(marks) - 2)
        span = marks[where + 1] - marks[where]
        part = np.divide(along_m - marks[where], span, out=np.zeros(len(at)), where=span > 0)
        north, east = lat[where + 1] - lat[where], lon[where + 1] - lon[where]
        latitude, longitude = lat[where] + part * north, lon[where] + part * east
        heading = np.degrees(np.arctan2(east * np.cos(np.radians(latitude)), north))
        heading = np.where(backwards, heading + 180, heading) % 360
        if self.jitter_m.high:
            jitter = self._own(at, name, "jitter_m", self.jitter_m) / METRES_PER_DEGREE
            stream = noise.purpose(at.devices.seed, "jitter", at.devices.names[0], name)
            latitude = latitude + jitter * noise.normal(stream, at.device, at.seq, 0)
            wider = np.maximum(np.cos(np.radians(latitude)), 0.01)
            longitude = longitude + jitter / wider * noise.normal(stream, at.device, at.seq, 1)
        return np.clip(latitude, -90, 90), (longitude + 180) % 360 - 180, heading

"""A scenario's rate as a Locust shape, for a locustfile of one's own that goes along with the fleet.

    from loadtests.shapes import shape_of

    class AlongWithTheFleet(shape_of("cold-chain", readings_per_user=20)):
        pass

The fleet itself needs no shape: its rate is exact, whatever the number of its users.
"""

from __future__ import annotations

import math

from locust import LoadTestShape

from fleetcast import scenarios
from fleetcast.errors import UsageError
from simulator.scenario import load

SPAWN_PER_S = 100


def shape_of(scenario: str, *, readings_per_user: float) -> type[LoadTestShape]:
    """A shape whose users follow the scenario's rate, and that ends when its schedule does.

    Args:
        scenario: A YAML file, or the name of a ready scenario.
        readings_per_user: Readings a second of the fleet for each user.

    Raises:
        UsageError: there is no such scenario, or no positive number of readings.
    """
    if not readings_per_user > 0:
        raise UsageError(f"readings_per_user {readings_per_user}: give a positive number")
    profile = load(scenarios.find(scenario)).profile

    class Shape(LoadTestShape):
        """Users in step with a fleet's rate."""

        def tick(self) -> tuple[int, float] | None:
            """(users, users spawned a second) now; None when the schedule has ended."""
            elapsed_s: float = self.get_run_time()  # type: ignore[no-untyped-call] # Locust's
            if elapsed_s >= profile.duration_s:
                return None
            return math.ceil(profile.rate_at(elapsed_s) / readings_per_user), SPAWN_PER_S

    return Shape

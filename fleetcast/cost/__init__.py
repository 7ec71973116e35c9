"""What a scenario costs on AWS: an estimate from its rate, its payloads, and the stack's settings."""

from __future__ import annotations

from fleetcast.cost.estimate import Estimate, Line, estimate
from fleetcast.cost.load import Load, load_of
from fleetcast.cost.prices import PriceList, load_prices

__all__ = ["Estimate", "Line", "Load", "PriceList", "estimate", "load_of", "load_prices"]

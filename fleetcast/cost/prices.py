"""Prices, each with the day and the page it is from; a file of one's own replaces what it names."""

from __future__ import annotations

import difflib
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleetcast.errors import UsageError

FILE = Path(__file__).with_name("prices.yaml")
_MILLION = "million "
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Price(BaseModel):
    """One price.

    Attributes:
        usd: US dollars per unit.
        per: The unit, such as `shard-hour` or `million requests`.
        page: Where it is from.
        as_of: The day it was known to be that; the list's own where it is not given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    usd: Amount
    per: str = ""
    page: str = ""
    as_of: date | None = None

    @property
    def each_usd(self) -> float:
        """US dollars of one unit, also where the price is for a million."""
        return self.usd / 1e6 if self.per.startswith(_MILLION) else self.usd

    @property
    def unit(self) -> str:
        """The unit, singly."""
        return self.per.removeprefix(_MILLION)


class PriceList(BaseModel):
    """Prices and assumptions by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    region: str
    as_of: date
    prices: dict[str, Price]
    assumptions: dict[str, Amount]

    def day_of(self, name: str) -> date:
        """The day of a price."""
        return self.prices[name].as_of or self.as_of


class _Override(BaseModel):
    """What a file of one's own may say: any part of the list, prices as objects or numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    region: str | None = None
    as_of: date | None = None
    prices: dict[str, Price | Amount] = {}
    assumptions: dict[str, Amount] = {}


def load_prices(own: Path | None = None) -> PriceList:
    """The list that comes with fleetcast, with what a file of one's own replaces.

    Args:
        own: A YAML file of the same form; prices may be bare numbers, of the same unit.

    Raises:
        UsageError: the file cannot be read, or names what there is not.
    """
    listed = PriceList.model_validate(yaml.safe_load(FILE.read_text()))
    if own is None:
        return listed
    override = _read(own)
    prices, assumptions = dict(listed.prices), dict(listed.assumptions)
    for name, given in override.prices.items():
        if name not in prices:
            raise UsageError(f"{own}: there is no price {name!r}{_close(name, prices)}")
        price = given if isinstance(given, Price) else Price(usd=given)
        prices[name] = Price(
            usd=price.usd,
            per=price.per or prices[name].per,
            page=price.page or str(own),
            as_of=price.as_of or override.as_of or listed.day_of(name),
        )
    for name, value in override.assumptions.items():
        if name not in assumptions:
            raise UsageError(f"{own}: there is no assumption {name!r}{_close(name, assumptions)}")
        assumptions[name] = value
    return PriceList(
        region=override.region or listed.region,
        as_of=listed.as_of,
        prices=prices,
        assumptions=assumptions,
    )


def _read(path: Path) -> _Override:
    try:
        told = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UsageError(f"cannot read the prices {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    try:
        return _Override.model_validate(told or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        raise UsageError(f"{path}: {where}: {first['msg']}") from error


def _close(name: str, known: dict[str, Any]) -> str:
    found = difflib.get_close_matches(name, known, 1)
    return f": did you mean {found[0]}?" if found else f": there are {', '.join(sorted(known))}"

"""Signals of the user's own: a callable named by module or by an entry point.

The callable is given `Readings` and the scenario's options, and returns the values of shape (n,):

    def tide(at, height=1.0):
        return height * np.sin(at.at_s / 7000 + at.place())

It must depend on what it is given alone. What it remembers of a device it keeps in `at.state`, in
arrays of shape (at.devices.count,); `at.uniform()` and `at.normal()` are its random numbers.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationInfo, model_validator

from fleetcast.errors import UsageError
from simulator.signals.base import Devices, Floats, Readings, Scene, Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GROUP = "fleetcast.signals"
_PROBED = 3


class PluginError(UsageError):
    """A plug-in cannot be had, raised, or gave something else than values."""


class Plugin(Signal):
    """A model of the user's own.

    Attributes:
        use: `module:callable`, or the name of an entry point of the group `fleetcast.signals`.
        options: Passed on to it by name.
        folder: Where modules are looked for first; the scenario's folder.
    """

    model: Literal["plugin"]
    use: str
    options: dict[str, Any] = Field(default_factory=dict)
    folder: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _locate(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, dict) and value.get("folder") is None:
            folder = Path((info.context or {}).get("folder", ".")).resolve()
            return {**value, "folder": str(folder)}
        return value

    @model_validator(mode="after")
    def _works(self) -> Self:
        at_s = np.arange(_PROBED, dtype=np.float64)
        devices = Devices(0, ("probe", "probe"), _PROBED, Scene())
        numbers = np.arange(_PROBED, dtype=np.int64)
        try:
            self.values(Readings(numbers, np.zeros(_PROBED, np.int64), at_s, {}, devices))
        except PluginError as error:
            raise ValueError(f"use: {error}") from error
        return self

    def values(self, at: Readings) -> Floats:
        """See `Signal`.

        Raises:
            PluginError: the plug-in raised, or gave no values.
        """
        called = find(self.use, self.folder or ".")
        try:
            given = np.asarray(called(at, **self.options), dtype=np.float64)
        except Exception as error:
            where = _where(error)
            raise PluginError(
                f"plug-in {self.use} raised {type(error).__name__}: {error}{where}"
            ) from error
        if given.shape != (len(at),):
            raise PluginError(
                f"plug-in {self.use} gave values of shape {given.shape} for {len(at)} readings: "
                f"it must be ({len(at)},)"
            )
        if not np.isfinite(given).all():
            raise PluginError(f"plug-in {self.use} gave a value that is no finite number")
        return given


@lru_cache(maxsize=256)
def find(use: str, folder: str) -> Callable[..., Any]:
    """The callable that is named.

    Raises:
        PluginError: there is none.
    """
    module_name, colon, name = use.partition(":")
    if not colon:
        return _entry_point(use)
    try:
        with _first(folder):
            called: Any = importlib.import_module(module_name)
        for part in name.split("."):
            called = getattr(called, part)
    except Exception as error:
        raise PluginError(_unloadable(use, error)) from error
    if not callable(called):
        raise PluginError(f"plug-in {use} is a {type(called).__name__}: it must be callable")
    return called  # type: ignore[no-any-return]


def _entry_point(name: str) -> Callable[..., Any]:
    found = list(entry_points(group=GROUP, name=name))
    if not found:
        raise PluginError(
            f"there is no entry point {name!r} of group {GROUP}: install what has it, or write "
            "module:callable"
        )
    try:
        return found[0].load()  # type: ignore[no-any-return]
    except Exception as error:
        raise PluginError(_unloadable(name, error)) from error


def _unloadable(use: str, error: Exception) -> str:
    return f"plug-in {use} cannot be loaded: {type(error).__name__}: {error}"


@contextmanager
def _first(folder: str) -> Iterator[None]:
    """A folder as the first place that modules are looked for in."""
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(folder)


def _where(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})"

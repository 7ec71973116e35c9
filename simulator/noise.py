"""Random numbers that depend on what they are for, not on when they are drawn.

A counter-based generator: every number is a hash of (seed, purpose, device, counter). Batch sizes,
the number of workers and the machine make no difference. The hash is the finalizer of SplitMix64
(Steele, Lea, Flood 2014). Normal numbers are sums of uniform ones, so that no logarithm or cosine
of a math library, which may differ in the last bit between machines, is involved.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

U64 = np.uint64
UInts = NDArray[np.uint64]
Floats = NDArray[np.float64]

_GOLDEN = U64(0x9E3779B97F4A7C15)
_MIX_1 = U64(0xBF58476D1CE4E5B9)
_MIX_2 = U64(0x94D049BB133111EB)
_EVEN, _PAIR = U64(0x0000FFFF0000FFFF), U64(0xFFFFFFFF)
# A sum of 8 uniform numbers from 16-bit lanes: mean 4, variance 8/12.
_LANES = 8
_NORMAL_SCALE = float(np.sqrt(12 / _LANES))


def purpose(seed: int, *names: str) -> np.uint64:
    """A stream of random numbers of its own, for a seed and what they are used for."""
    value = U64(seed & 0xFFFFFFFFFFFFFFFF)
    with np.errstate(over="ignore"):
        for name in names:
            word = U64(zlib.crc32(name.encode()))
            value = U64(_mix(np.asarray((value ^ word) + _GOLDEN))[()])
    return value


def bits(stream: np.uint64, *counters: Any) -> UInts:
    """64 random bits for each element of the counters (integers or arrays that broadcast)."""
    with np.errstate(over="ignore"):
        value = np.asarray(stream, dtype=U64)
        for counter in counters:
            value = _mix((value + np.asarray(counter).astype(U64)) * _MIX_2 + _GOLDEN)
    return value


def uniform(stream: np.uint64, *counters: Any) -> Floats:
    """Uniform numbers in [0, 1)."""
    result: Floats = (bits(stream, *counters) >> U64(11)).astype(np.float64) * 2.0**-53
    return result


def normal(stream: np.uint64, *counters: Any) -> Floats:
    """Numbers of mean 0 and variance 1, near normal, within +-4.9."""
    first = bits(stream, *counters)
    with np.errstate(over="ignore"):
        second = _mix(first + _GOLDEN)
    # Of both words, pairs of lanes are added in lanes of 32 bits, which have room for them.
    pairs = (first & _EVEN) + ((first >> U64(16)) & _EVEN)
    pairs += (second & _EVEN) + ((second >> U64(16)) & _EVEN)
    total = ((pairs & _PAIR) + (pairs >> U64(32))).astype(np.float64)
    # Each lane is an integer from 0 to 65535; its middle is 32767.5.
    result: Floats = (total - _LANES * 32767.5) * (_NORMAL_SCALE / 65536.0)
    return result


def _mix(value: UInts) -> UInts:
    """The finalizer. Whoever calls it lets numbers overflow, as they are meant to."""
    value = (value ^ (value >> U64(30))) * _MIX_1
    value = (value ^ (value >> U64(27))) * _MIX_2
    return value ^ (value >> U64(31))

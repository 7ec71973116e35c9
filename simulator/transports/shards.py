"""Which shard a partition key goes to, so that what is aggregated belongs together."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator import kpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from simulator.batch import Batch


class ShardMap:
    """The open shards of a stream by their hash ranges.

    Args:
        shards: As ListShards tells them.
    """

    def __init__(self, shards: Sequence[dict[str, Any]]) -> None:
        starts = sorted(
            (int(shard["HashKeyRange"]["StartingHashKey"]), str(shard["ShardId"]))
            for shard in shards
            if "EndingSequenceNumber" not in shard["SequenceNumberRange"]
        )
        self._starts = [start for start, _ in starts] or [0]
        self.names = {name for _, name in starts}
        self.hash_keys = [str(start) for start in self._starts]
        self._of_device: NDArray[np.int16] = np.full(0, -1, dtype=np.int16)

    def of_key(self, key: str) -> int:
        """The number of the shard that a partition key is hashed to."""
        digest = hashlib.md5(key.encode(), usedforsecurity=False).digest()
        return bisect_right(self._starts, int.from_bytes(digest, "big")) - 1

    def of(self, batch: Batch) -> NDArray[np.int16]:
        """The shards' numbers of readings, shape (n,)."""
        if not batch.own_keys:
            return np.array([self.of_key(key) for key in batch.keys.tolist()], dtype=np.int16)
        devices = batch.rows["device"]
        most = int(devices.max(initial=0)) + 1
        if most > len(self._of_device):
            more = np.full(max(most, 2 * len(self._of_device)) - len(self._of_device), -1, np.int16)
            self._of_device = np.concatenate([self._of_device, more])
        found: NDArray[np.int16] = self._of_device[devices]
        new = np.flatnonzero(found < 0)
        if len(new):
            found[new] = [self.of_key(key) for key in batch.keys.take(new).tolist()]
            self._of_device[devices[new]] = found[new]
        return found

    def grouped(self, batch: Batch) -> Batch:
        """Readings by shard, in parts that make a record each; a device's order is kept."""
        shards = self.of(batch)
        order = np.argsort(shards, kind="stable")
        batch, shards = batch.take(order), shards[order]
        # Names of devices are about equally long. A few bytes too many or too few do no harm.
        sizes = batch.payloads.sizes + kpl.RECORD_OVERHEAD + batch.keys.largest
        parts = (np.cumsum(sizes) - sizes) // kpl.MAX_AGGREGATE
        large = sizes > kpl.MAX_AGGREGATE
        new = np.ones(len(batch), dtype=np.bool_)
        new[1:] = (np.diff(shards) != 0) | (np.diff(parts) != 0) | large[1:] | large[:-1]
        firsts = np.flatnonzero(new)
        batch.groups = np.diff(np.append(firsts, len(batch)))
        return batch

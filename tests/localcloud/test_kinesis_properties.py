from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.kinesis.limits import TokenBucket
from localcloud.kinesis.shard import MAX_HASH_KEY
from localcloud.kinesis.stream import Stream, hash_key


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 64), st.text(min_size=1, max_size=256))
def test_every_key_belongs_to_the_one_open_shard_whose_range_holds_it(count, key):
    stream = Stream("s", "arn", "PROVISIONED", 0.0)
    stream.add_even_shards(count)

    holding = [s for s in stream.shards if s.start_hash <= hash_key(key) <= s.end_hash]

    assert holding == [stream.shard_for(hash_key(key))]
    assert (stream.shards[0].start_hash, stream.shards[-1].end_hash) == (0, MAX_HASH_KEY)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 300)), max_size=30))
def test_a_bucket_never_gives_more_than_its_rate_and_one_second_ahead(steps):
    now = 0.0
    bucket = TokenBucket(100, now)
    taken = 0
    for wait, wanted in steps:
        now += wait
        bucket.refill(now)
        assert bucket.tokens <= 100
        got = min(wanted, int(bucket.tokens))
        bucket.tokens -= got
        taken += got
    assert taken <= 100 + now * 100 + 1e-6


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 9), st.lists(st.tuples(st.booleans(), st.integers(0, 2**64)), max_size=12))
def test_open_shards_cover_the_hash_space_once_after_any_resharding(count, steps):
    stream = Stream("s", "arn", "PROVISIONED", 0.0)
    stream.add_even_shards(count)
    for split, pick in steps:
        open_shards = stream.open_shards
        index = pick % len(open_shards)
        shard = open_shards[index]
        if split and shard.end_hash > shard.start_hash:
            at = shard.start_hash + 1 + pick % (shard.end_hash - shard.start_hash)
            stream.split(shard, at)
        elif not split:
            stream.reshard(max(1, index))
        ranges = [(shard.start_hash, shard.end_hash) for shard in stream.open_shards]
        assert ranges[0][0] == 0
        assert ranges[-1][1] == MAX_HASH_KEY
        assert all(low[1] + 1 == high[0] for low, high in itertools.pairwise(ranges))

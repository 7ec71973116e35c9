"""Account settings of Timestream: the rules of the API reference and the developer guide."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "COMPUTE_UNITS"


@pytest_asyncio.fixture(loop_scope="module")
async def client(cloud):
    client = await cloud.client("timestream-query")
    yield client
    await client.update_account_settings(MaxQueryTCU=200)


async def settings(client: Any) -> tuple[int, str]:
    told = await client.describe_account_settings()
    assert set(told) == {"MaxQueryTCU", "QueryPricingModel", "ResponseMetadata"}
    return told["MaxQueryTCU"], told["QueryPricingModel"]


async def test_an_account_pays_by_compute_units_of_which_it_has_200_at_most(client):
    assert await settings(client) == (200, MODEL)


@pytest.mark.parametrize("units", [4, 8, 128, 1000])
async def test_the_maximum_is_changed_and_told(client, units):
    told = await client.update_account_settings(MaxQueryTCU=units)

    assert (told["MaxQueryTCU"], told["QueryPricingModel"]) == (units, MODEL)
    assert await settings(client) == (units, MODEL)


async def test_a_setting_that_is_not_given_stays(client):
    await client.update_account_settings(MaxQueryTCU=40)
    await client.update_account_settings(QueryPricingModel=MODEL)
    await client.update_account_settings()

    assert await settings(client) == (40, MODEL)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        *(({"MaxQueryTCU": units}, "MaxQueryTCU must be a multiple of 4 from 4 to 1000")
          for units in (-4, 0, 2, 6, 201, 1001, 1004)),
        ({"QueryPricingModel": "BYTES_SCANNED"}, "cannot go back to bytes scanned"),
        ({"MaxQueryTCU": 8, "QueryPricingModel": "BYTES_SCANNED"}, "cannot go back"),
        ({"MaxQueryTCU": 8, "QueryCompute": {"ComputeMode": "ON_DEMAND"}}, "QueryCompute is not supported"),
        ({"QueryPricingModel": "FREE"},
         r"Value 'FREE' at 'queryPricingModel' failed .* enum value set: \[BYTES_SCANNED, COMPUTE_UNITS\]"),
        ({"QueryCompute": {"ProvisionedCapacity": {"TargetQueryTCU": 4, "NotificationConfiguration":
          {"RoleArn": "r" * 2049}}}}, "less than or equal to 2048"),
    ],
)  # fmt: skip
async def test_a_setting_beyond_the_rules_is_refused_and_changes_nothing(client, given, message):
    with pytest.raises(client.exceptions.ValidationException, match=message):
        await client.update_account_settings(**given)

    assert await settings(client) == (200, MODEL)

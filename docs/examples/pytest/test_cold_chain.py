async def test_cold_chain(fleet):
    run = await fleet.run("cold-chain", devices=50, rate="100/s", duration="20s")
    assert run.passed, run.why


async def test_an_overheated_lorry_raises_the_alarm(fleet):
    run = await fleet.run(
        {
            "name": "lorry",
            "fleet": {
                "devices": 20,
                "classes": [
                    {
                        "name": "lorry",
                        "share": 1,
                        "signals": {"temperature": {"model": "normal", "mean": 4, "sigma": 1}},
                    }
                ],
            },
            "rate": [{"shape": "constant", "rate": "40/s", "duration": "12s"}],
            "faults": [
                {
                    "name": "hot",
                    "kind": "overheat",
                    "signal": "temperature",
                    "offset": 80,
                    "share": 0.2,
                    "start": "2s",
                    "duration": "5s",
                    "alarm": "critical-readings",
                }
            ],
            "expect": {
                "rate_error_pct": 5,
                "alarms": [{"name": "critical-readings", "fires_within": "60s"}],
            },
        }
    )
    assert run.passed, run.why
    assert run.fired("critical-readings") < 60
    assert run.verdict.landed["timeseries"].unique == run.verdict.acked

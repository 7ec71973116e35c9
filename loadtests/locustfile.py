"""Locust drives a scenario's fleet at a deployed stack; each user sends a slice of the devices.

    locust -f loadtests/locustfile.py --headless --users 10 --scenario smoke --fleet-env dev

The readings are the scenario's, due when the scenario says; `--users` is how many send them. With
`--processes 2`, or with workers on machines that share the runs folder, users are spread evenly.
When the schedule ends, Locust quits, and the run is verified as `fleetcast simulate`'s are.
"""

from __future__ import annotations

import itertools
import logging
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
from locust import User, events, task
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from fleetcast import scenarios
from fleetcast.errors import ExitCode, FleetcastError, UsageError
from fleetcast.runs import new_run
from fleetcast.target import Target
from loadtests.slices import Answered, SliceDriver, signing_key, slice_of
from simulator.scenario import load, load_run
from stack.outputs import StackOutputs

log = logging.getLogger("fleetcast")

# Users are spawned, and their connections opened, before the first reading is due.
SPAWN_S = 3.0
# After the end of the schedule, for what was throttled to be tried again.
LATE_S = 120.0
_numbers = itertools.count()


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    """Adds what a fleet needs to Locust's options."""
    group = parser.add_argument_group("fleetcast")
    group.add_argument("--scenario", default="smoke", help="YAML file or name of a ready scenario")
    group.add_argument("--fleet-target", default="local", choices=["local", "aws"])
    group.add_argument("--fleet-env", default="dev", help="environment suffix of the stack")
    group.add_argument("--fleet-devices", type=int, default=None, help="number of devices")
    group.add_argument("--fleet-rate", default=None, help="peak rate, such as 2000/s")
    group.add_argument("--fleet-duration", default=None, help="length, such as 30s")
    group.add_argument("--fleet-run-id", default=None, help="a run id of your own")
    group.add_argument("--no-verify", action="store_true", help="do not verify when it has ended")


@events.test_start.add_listener
def begin(environment: Any, **_: Any) -> None:
    """Makes the run, in the one process that leads; workers are told through Locust's options."""
    if isinstance(environment.runner, WorkerRunner):
        return
    options = environment.parsed_options
    options.fleet_run_dir = ""
    try:
        _make_run(environment, options)
    except FleetcastError as error:
        _give_up(environment, str(error), int(error.exit_code))
    except Exception as error:
        # Locust logs an exception of a listener and goes on, with users that have nothing to do.
        _give_up(environment, f"internal error: {type(error).__name__}: {error}", ExitCode.TARGET)
        raise
    else:
        gevent.spawn(_quit_when_done, environment)


def _give_up(environment: Any, text: str, code: int) -> None:
    log.error("fleetcast: %s", text)
    environment.process_exit_code = code
    gevent.spawn(environment.runner.quit)


def _make_run(environment: Any, options: Any) -> None:
    runner = environment.runner
    workers = runner.worker_count if isinstance(runner, MasterRunner) else 1
    users = options.num_users or 1
    if users % workers:
        raise UsageError(f"--users {users} on {workers} workers: make it a multiple of {workers}")
    plan = load(scenarios.find(options.scenario)).with_overrides(
        devices=options.fleet_devices, rate=options.fleet_rate, duration=options.fleet_duration
    )
    if users > plan.fleet.devices:
        raise UsageError(
            f"--users {users} is more than the {plan.fleet.devices} devices: use fewer"
        )
    outputs = StackOutputs.load(options.fleet_target, options.fleet_env)
    target = Target.named(options.fleet_target, region=outputs.region)
    signing_key(target, outputs.signing_secret_arn)
    info, folder = new_run(plan, target, outputs, options.fleet_run_id)
    spawning_s = users / (options.spawn_rate or 1.0)
    run = replace(info, start_ms=int((time.time() + spawning_s + SPAWN_S) * 1000))
    plan.save(folder / "scenario.yaml", run)
    options.fleet_run_dir = str(folder)
    options.fleet_workers = workers
    options.fleet_users = users
    log.info("run %s: %s, %d devices, %d users", run.id, plan.name, plan.fleet.devices, users)


def _quit_when_done(environment: Any) -> None:
    """Ends the test when every user has sent its slice."""
    scenario, run = load_run(Path(environment.parsed_options.fleet_run_dir))
    end_s = run.start_ms / 1000 + scenario.profile.duration_s
    gevent.sleep(max(0.0, end_s - time.time()))
    with gevent.Timeout(LATE_S, exception=False):
        while environment.runner.user_count:
            gevent.sleep(0.2)
    environment.runner.quit()


@events.quitting.add_listener
def verify(environment: Any, **_: Any) -> None:
    """Verifies the run; Locust exits with the verdict's code."""
    options = environment.parsed_options
    run_dir = getattr(options, "fleet_run_dir", "")
    if isinstance(environment.runner, WorkerRunner) or not run_dir or options.no_verify:
        return
    command = [sys.executable, "-m", "fleetcast", "verify", Path(run_dir).name]
    environment.process_exit_code = subprocess.run(command, check=False).returncode  # noqa: S603 - our own


class FleetUser(User):
    """A slice of the fleet's devices. One task, which lasts as long as the schedule."""

    @task
    def drive(self) -> None:
        """Drives the slice, then ends the user."""
        options = self.environment.parsed_options
        if options.fleet_run_dir:
            number = next(_numbers)
            try:
                self._driver(number, Path(options.fleet_run_dir)).drive()
            except Exception:
                log.exception("a user stopped before its schedule ended")
        raise StopUser

    def _driver(self, number: int, run_dir: Path) -> SliceDriver:
        """The driver of the slice of this process's user of a number."""
        options = self.environment.parsed_options
        scenario, run = load_run(run_dir)
        runner = self.environment.runner
        worker = runner.worker_index if isinstance(runner, WorkerRunner) else 0
        index = worker + options.fleet_workers * number
        outputs = StackOutputs.load(run.target, run.environment)
        target = Target.named(run.target, region=outputs.region)
        return SliceDriver(
            scenario,
            slice_of(run, scenario.fleet.devices, index, options.fleet_users),
            signing_key(target, outputs.signing_secret_arn),
            target,
            outputs.stream_name,
            run_dir,
            self._tell,
        )

    def _tell(self, answered: Answered) -> None:
        """A request for Locust's statistics: its time counts from when its first reading was due."""
        self.environment.events.request.fire(
            request_type="Kinesis",
            name="PutRecords",
            response_time=answered.late_ms,
            response_length=answered.size,
            exception=answered.error,
            context={},
        )

"""Locust drives a scenario's fleet at a deployed stack; each user drives a slice of the devices.

    locust -f loadtests/locustfile.py --headless --users 2 --scenario smoke --fleet-env dev

The readings are the scenario's, due when the scenario says; `--users` is how many processes send them.
With `--processes 2`, or with workers on several machines, users are spread evenly. When the schedule
ends, Locust quits, and the run is verified as `fleetcast simulate`'s are. docs/load.md tells the rest.
"""

from __future__ import annotations

import itertools
import json
import logging
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import boto3
import gevent
from botocore.exceptions import BotoCoreError, ClientError
from locust import User, events, runners, task
from locust.exception import StopUser
from locust.runners import WORKER_REPORT_INTERVAL, MasterRunner, WorkerRunner
from locust.stats import CSV_STATS_INTERVAL_SEC

from fleetcast import scenarios
from fleetcast.errors import ExitCode, FleetcastError, TargetError, UsageError
from fleetcast.home import identities_of, runs_dir
from fleetcast.pipeline import Pipeline, driven
from fleetcast.runs import WORKERS_HEAD_START_S, new_run
from fleetcast.target import Target
from loadtests import ledgers, sender, web
from loadtests.leader import Leader
from loadtests.limits import Limits, verdict_checks, write_junit
from loadtests.statistics import Readings
from simulator.engine import key_unreadable
from simulator.histogram import Histogram
from simulator.measure import Progress
from simulator.scenario import load
from simulator.sending import Sending, key_without_stack
from simulator.target_faults import check_target
from simulator.workers import order_for, slices
from stack.outputs import StackOutputs

log = logging.getLogger("fleetcast")

MESSAGE = "fleet"
SHIP_S = 1.0
REPORTED_S = 1.0
# Seconds without a sign of life after which a worker is missed. Locust's three are less than a busy
# machine keeps a process waiting, and a slice whose worker is missed is given up.
MISSED_S = 15
VERIFY = "verify"
# Users of this process, counted in each run.
_numbers: dict[str, itertools.count[int]] = {}
# What drives the slices of this process. None is its user's own: Locust moves users among workers
# when one comes or goes, and a slice that is moved would be cut off.
_drives: list[gevent.Greenlet] = []
# Of the process that leads.
_leaders: list[Leader] = []


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    """Adds what a fleet needs to Locust's options."""
    group = parser.add_argument_group("fleetcast")
    group.add_argument("--scenario", default="smoke", help="YAML file or name of a ready scenario")
    group.add_argument("--fleet-target", default="local", choices=["local", "aws"])
    group.add_argument("--fleet-env", default="dev", help="environment suffix of the stack")
    group.add_argument("--fleet-region", default=None, help="AWS region; the stack's if not given")
    group.add_argument(
        "--fleet-pipeline", default=None, help="file of a pipeline of your own, in place of a stack"
    )
    group.add_argument(
        "--fleet-transport", default="kinesis", help="kinesis, mqtt, or null to send to nowhere"
    )
    group.add_argument(
        "--devices-per-connection", type=int, default=1, help="over mqtt: of a gateway"
    )
    group.add_argument(
        "--connect-rate", type=float, default=100.0, help="over mqtt: connections begun a second"
    )
    group.add_argument("--fleet-aggregate", action="store_true", help="KPL aggregation")
    group.add_argument(
        "--fleet-ordering", default="relaxed", help="strict keeps each device's order, or relaxed"
    )
    group.add_argument("--fleet-seed", type=int, default=None, help="another seed")
    group.add_argument("--fleet-devices", type=int, default=None, help="number of devices")
    group.add_argument("--fleet-rate", default=None, help="peak rate, such as 2000/s")
    group.add_argument("--fleet-duration", default=None, help="length, such as 30s")
    group.add_argument("--fleet-run-id", default=None, help="a run id of your own")
    group.add_argument(
        "--fleet-json", action="store_true", help="progress as lines of JSON on standard error"
    )
    group.add_argument("--max-fail-ratio", type=float, default=None, help="0 to 1")
    group.add_argument("--max-p99", type=float, default=None, help="milliseconds, due to acked")
    group.add_argument("--max-rate-error", type=float, default=None, help="per cent")
    group.add_argument("--max-lost", type=int, default=None, help="readings")
    group.add_argument("--junit", default=None, help="file for the checks as JUnit XML")
    group.add_argument("--no-verify", action="store_true", help="do not verify when it has ended")


@events.init.add_listener
def listen(environment: Any, **_: Any) -> None:
    """Lets workers and the master talk, and extends the web page."""
    runner = environment.runner
    if runner is None or isinstance(runner, WorkerRunner):
        return
    runners.HEARTBEAT_LIVENESS = MISSED_S
    runner.register_message(MESSAGE, _heard)
    if environment.web_ui:
        web.extend(environment, lambda: _leaders[-1] if _leaders else None)


def _heard(environment: Any, msg: Any, **_: Any) -> None:
    del environment
    told = json.loads(msg.data["told"]) if "told" in msg.data else None
    data = {**msg.data, **({"told": told} if told else {})}
    if _leaders and data["run"] == _leaders[-1].run.id:
        _leaders[-1].hear(msg.node_id or "", data)


@events.test_start.add_listener
def begin(environment: Any, **_: Any) -> None:
    """Makes the run, in the one process that leads; workers are told through Locust's options."""
    if isinstance(environment.runner, WorkerRunner):
        return
    options = environment.parsed_options
    options.fleet_order = ""
    try:
        leader = _make_run(environment, options)
    except FleetcastError as error:
        _give_up(environment, str(error), int(error.exit_code))
    except Exception as error:
        # Locust logs an exception of a listener and goes on, with users that have nothing to do.
        _give_up(environment, f"internal error: {type(error).__name__}: {error}", ExitCode.TARGET)
        raise
    else:
        _leaders.append(leader)
        gevent.spawn(_lead, environment, leader)


def _give_up(environment: Any, text: str, code: int) -> None:
    log.error("fleetcast: %s", text)
    environment.process_exit_code = code
    gevent.spawn(environment.runner.quit)


def _limits(options: Any) -> Limits:
    limits = Limits(
        options.max_fail_ratio, options.max_p99, options.max_rate_error, options.max_lost
    )
    for option, value in (
        ("--max-fail-ratio", limits.fail_ratio), ("--max-p99", limits.p99_ms),
        ("--max-rate-error", limits.rate_error_pct), ("--max-lost", limits.lost),
    ):  # fmt: skip
        if value is not None and not value >= 0:
            raise UsageError(f"{option} {value}: give a number that is not negative")
    return limits


def _make_run(environment: Any, options: Any) -> Leader:
    runner = environment.runner
    nodes = [""]
    if isinstance(runner, MasterRunner):
        clients = runner.clients
        nodes = sorted(
            client.id for client in (*clients.ready, *clients.spawning, *clients.running)
        )
    workers = max(1, len(nodes))
    users = runner.target_user_count or options.num_users or 1
    if users % workers:
        raise UsageError(f"--users {users} on {workers} workers: make it a multiple of {workers}")
    plan = load(scenarios.find(options.scenario)).with_overrides(
        devices=options.fleet_devices,
        rate=options.fleet_rate,
        duration=options.fleet_duration,
        seed=options.fleet_seed,
    )
    if users > plan.fleet.devices:
        raise UsageError(
            f"--users {users} is more than the {plan.fleet.devices} devices: use fewer"
        )
    if options.fleet_transport in {"file", "stdout"}:
        raise UsageError(f"transport {options.fleet_transport} is written by one process")
    sending = Sending.checked(
        options.fleet_transport,
        options.fleet_aggregate,
        options.fleet_ordering,
        None,
        1,
        plan.fleet.devices,
    )
    if options.fleet_transport == "mqtt":
        known = identities_of(options.fleet_target, options.fleet_env)
        sending = sending.over_mqtt(
            known, options.devices_per_connection, options.connect_rate / users
        )
    plan = _limits(options).applied_to(plan)
    outputs: StackOutputs | Pipeline | None = None
    target = None
    if options.fleet_pipeline:
        driven.refuse_others(options.fleet_transport)
        plan, outputs, target = driven.at(plan, Path(options.fleet_pipeline), options.fleet_target)
    elif sending.to_stack:
        outputs = StackOutputs.load(options.fleet_target, options.fleet_env)
        target = Target.named(options.fleet_target, region=options.fleet_region or outputs.region)
    if target is not None and outputs is not None:
        _signing_key(target, outputs.signing_secret_arn)
    # One process would have to put them on the target for all.
    check_target(plan, None)
    where = target or Target.named(options.fleet_target, region=options.fleet_region)
    info, folder = new_run(
        plan, where, outputs, options.fleet_run_id, transport=options.fleet_transport
    )
    spawning_s = users / (options.spawn_rate or 1.0)
    connecting_s = sending.connecting_s(-(-plan.fleet.devices // users))
    start_s = time.time() + spawning_s + WORKERS_HEAD_START_S + connecting_s
    run = replace(info, start_ms=int(start_s * 1000))
    plan.save(folder / "scenario.yaml", run)
    if options.fleet_pipeline:
        driven.keep(Path(options.fleet_pipeline), folder)
    leader = Leader(
        plan, run, folder, users, lambda node: _is_alive(runner, node),
        watch=_print_progress if options.fleet_json else _keep_quiet,
    )  # fmt: skip
    # Locust hands its options to workers, as they are now.
    options.fleet_order = json.dumps(
        {
            "run": run.id,
            "run_dir": str(folder),
            "token": leader.token,
            "scenario": (folder / "scenario.yaml").read_text(),
            "nodes": nodes,
            "users": users,
            "devices": plan.fleet.devices,
            "sending": sending.to_json(),
            "stream": outputs.stream_name if outputs else "",
            "secret": outputs.signing_secret_arn if outputs else "",
            "target": asdict(target) if target else None,
            "environment": options.fleet_env,
        }
    )
    log.info("run %s: %s, %d devices, %d users", run.id, plan.name, plan.fleet.devices, users)
    return leader


def _print_progress(now: Progress) -> None:
    sys.stderr.write(json.dumps({"event": "progress", **asdict(now)}) + "\n")


def _keep_quiet(_: Progress) -> None:
    """Locust has statistics of its own."""


def _is_alive(runner: Any, node: str) -> bool:
    if not isinstance(runner, MasterRunner):
        return True
    clients = runner.clients
    return node in {one.id for one in (*clients.ready, *clients.spawning, *clients.running)}


def _lead(environment: Any, leader: Leader) -> None:
    """Leads the run, and ends the test with it; a web page stays, for another one."""
    leader.lead()
    if environment.web_ui:
        environment.runner.stop()
        _conclude(environment, leader)
    else:
        # What workers have not reported by now, and what is not in the CSV files, would never be.
        gevent.sleep(max(CSV_STATS_INTERVAL_SEC, WORKER_REPORT_INTERVAL) + REPORTED_S)
        environment.runner.quit()


@events.test_stopping.add_listener
def end_drives(**_: Any) -> None:
    """Ends what is driven here, with its books closed."""
    gevent.killall(_drives, block=True)


@events.quitting.add_listener
def conclude(environment: Any, **_: Any) -> None:
    """Says what came of a run that was led to its end, or that is ended now."""
    if not isinstance(environment.runner, WorkerRunner) and _leaders:
        _conclude(environment, _leaders[-1])


def _conclude(environment: Any, leader: Leader) -> None:
    """Says what was kept of what was asked for, and verifies; Locust exits with the worst."""
    if leader.concluded:
        return
    leader.concluded = True
    options, summary = environment.parsed_options, leader.end()
    checks = _limits(options).checks(summary)
    code = int(ExitCode.TARGET) if leader.problems else 0
    for check in checks:
        if not check.ok:
            log.error("fleetcast: %s: %s", check.name, check.detail)
            code = code or int(ExitCode.VERDICT_FAIL)
    if leader.run.environment and not options.no_verify:
        command = [sys.executable, "-m", "fleetcast", VERIFY, leader.run.id]
        verified = subprocess.run(command, check=False).returncode  # noqa: S603 - our own
        code = code or verified
        checks += verdict_checks(leader.run_dir)
    if options.junit:
        write_junit(Path(options.junit), leader.run.id, checks)
    environment.process_exit_code = code


def _signing_key(target: Target, secret_arn: str) -> bytes | None:
    """The key that readings are signed with, from the stack's secret; None where there is none.

    Raises:
        TargetError: it cannot be read.
    """
    if not secret_arn:
        return None
    client: Any = boto3.client("secretsmanager", **target.client_kwargs())
    try:
        return str(client.get_secret_value(SecretId=secret_arn)["SecretString"]).encode()
    except (ClientError, BotoCoreError, OSError) as error:
        raise TargetError(key_unreadable(target, error)) from error


class FleetUser(User):
    """A slice of the fleet's devices. One task, which lasts as long as the schedule."""

    @task
    def drive(self) -> None:
        """Drives the slice, then ends the user."""
        told = getattr(self.environment.parsed_options, "fleet_order", "")
        devices = self._slice(json.loads(told)) if told else None
        if devices is not None:
            driving = gevent.spawn(self._drive, json.loads(told), devices)
            _drives.append(driving)
            driving.get()
        raise StopUser

    def _slice(self, order: dict[str, Any]) -> tuple[int, int] | None:
        """The slice of this process's next user; None where another has it.

        Locust starts users of a worker that is lost anew elsewhere, and counts on workers that come
        late: their slices are taken.
        """
        runner = self.environment.runner
        node = runner.client_id if isinstance(runner, WorkerRunner) else ""
        number = next(_numbers.setdefault(order["run"], itertools.count()))
        nodes = order["nodes"]
        index = nodes.index(node) + len(nodes) * number if node in nodes else order["users"]
        if index >= order["users"]:
            log.warning("fleetcast: a user has nothing to do: every slice has its own")
            return None
        found: tuple[int, int] = slices(order["devices"], order["users"])[index]
        return found

    def _drive(self, order: dict[str, Any], devices: tuple[int, int]) -> None:
        try:
            run_dir, shipping = self._run_dir(order)
            problem = self._send(order, devices, run_dir, shipping)
        except FleetcastError as error:
            problem = str(error)
        except Exception as error:
            self._tell(order, devices, problem=f"internal error: {type(error).__name__}: {error}")
            raise
        if problem:
            self._tell(order, devices, problem=problem)

    def _run_dir(self, order: dict[str, Any]) -> tuple[Path, ledgers.Sent | None]:
        """The run's folder here, and how its ledger gets to the master where it is another."""
        theirs = Path(order["run_dir"])
        if theirs.parent == runs_dir() and ledgers.is_shared(theirs, order["token"]):
            return theirs, None
        own = runs_dir() / order["run"]
        own.mkdir(parents=True, exist_ok=True)
        (own / "scenario.yaml").write_text(order["scenario"])
        return own, ledgers.Sent(own)

    def _send(
        self,
        order: dict[str, Any],
        devices: tuple[int, int],
        run_dir: Path,
        shipping: ledgers.Sent | None,
    ) -> str:
        target = Target(**order["target"]) if order["target"] else None
        key = _signing_key(target, order["secret"]) if target else key_without_stack()
        readings = Readings(self.environment.stats)
        shipped_s = time.monotonic()
        # The summary comes last: whoever hears it has the whole ledger.
        last: list[dict[str, Any]] = []

        def ship() -> None:
            for piece in shipping.grown() if shipping is not None else ():
                self._tell(order, devices, ledger=piece)

        def heard(line: dict[str, Any]) -> None:
            nonlocal shipped_s
            if "latencies" in line:
                latencies = Histogram.from_json(line.pop("latencies"))
                readings.add(Progress(**line["progress"]), latencies)
            if "summary" in line:
                last.append(line)
                return
            if time.monotonic() - shipped_s >= SHIP_S:
                shipped_s = time.monotonic()
                ship()
            self._tell(order, devices, told=json.dumps(line))

        self._tell(order, devices)
        sending = Sending.from_json(dict(order["sending"]))
        if target is not None and sending.identities is not None:
            # Another machine has the keys in a folder of its own.
            sending = replace(sending, identities=identities_of(target.name, order["environment"]))
        whole = order_for(run_dir, key, target, order["stream"], sending)
        try:
            return sender.drive(whole, devices, heard)
        finally:
            ship()
            for line in last:
                self._tell(order, devices, told=json.dumps(line))

    def _tell(self, order: dict[str, Any], devices: tuple[int, int], **more: Any) -> None:
        """Tells the master."""
        message = {"run": order["run"], "slice": list(devices), **more}
        self.environment.runner.send_message(MESSAGE, message)

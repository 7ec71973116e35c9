"""`fleetcast synth`, `deploy`, `destroy` and `stack check`."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fleetcast.cli.common import (
    EnvOption,
    JsonOption,
    RegionOption,
    TargetOption,
    help_if_nothing_asked,
    run_async,
)
from fleetcast.cli.settings import SetOption, TagOption, stack_settings

EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="builtin|terraform",
        help="builtin (local only, the default there) or terraform (the only one for AWS).",
    ),
]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", help="Profile of the AWS configuration files.")
]
RoleOption = Annotated[
    str | None, typer.Option("--role-arn", help="Role to assume with the credentials at hand.")
]
ExternalIdOption = Annotated[
    str | None, typer.Option("--external-id", help="External id that the role's trust asks for.")
]
StateBucketOption = Annotated[
    str | None,
    typer.Option("--state-bucket", help="S3 bucket for Terraform's state, with a lock in it."),
]
StateRegionOption = Annotated[
    str | None, typer.Option("--state-region", help="Region of that bucket, if it is another.")
]

group = typer.Typer(
    help="Look at the stack before it is deployed.",
    invoke_without_command=True,
    callback=help_if_nothing_asked,
    epilog="Example: fleetcast stack check --env dev",
)


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    app.add_typer(group, name="stack")
    app.command(epilog="Example: fleetcast synth --env dev --out cdktf.out")(synth)
    app.command(epilog="Example: fleetcast deploy --target local --env dev")(deploy)
    app.command(epilog="Example: fleetcast destroy --target local --env dev")(destroy)


def synth(
    env: EnvOption = "dev",
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("cdktf.out"),
    target: TargetOption = "local",
    region: RegionOption = None,
    set_: SetOption = None,
    tag: TagOption = None,
) -> None:
    """Write the stack as Terraform JSON: OUT/stacks/fleetcast-ENV/cdk.tf.json."""
    from fleetcast.target import Target
    from stack.config import StackConfig
    from stack.synth import synthesize

    where = Target.named(target, region=region)
    config = StackConfig.for_target(
        where.name, env, region=where.region, **stack_settings(set_, tag)
    )
    folder = synthesize(config, out)
    typer.echo(str(folder / "cdk.tf.json"))


def deploy(
    target: TargetOption = "local",
    env: EnvOption = "dev",
    engine: EngineOption = None,
    region: RegionOption = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Tell what would change, and change nothing.")
    ] = False,
    set_: SetOption = None,
    tag: TagOption = None,
    profile: ProfileOption = None,
    role_arn: RoleOption = None,
    external_id: ExternalIdOption = None,
    state_bucket: StateBucketOption = None,
    state_region: StateRegionOption = None,
) -> None:
    """Create or update the stack; print what changed."""
    from fleetcast.target import Target
    from stack.config import StackConfig
    from stack.deploy import AwsOptions, changes, choose_engine
    from stack.deploy import deploy as deploy_stack

    where = Target.named(target, region=region)
    config = StackConfig.for_target(
        where.name, env, region=where.region, **stack_settings(set_, tag)
    )
    chosen = choose_engine(where, engine)
    options = AwsOptions(profile, role_arn, external_id, state_bucket, state_region)
    if plan:
        told = run_async(changes(config, where, chosen, options=options))
        typer.echo("\n".join([*told, f"plan for {env} on {where.name}: {len(told)} changes"]))
        return
    outputs = run_async(deploy_stack(config, where, chosen, progress=typer.echo, options=options))
    typer.echo(f"deployed {outputs.environment} to {where.name}: stream {outputs.stream_name}")


def destroy(
    target: TargetOption = "local",
    env: EnvOption = "dev",
    engine: EngineOption = None,
    region: RegionOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask (aws asks otherwise).")] = False,
    devices: Annotated[
        bool,
        typer.Option("--devices", help="Retire its devices first: certificates, things and keys."),
    ] = False,
    even_production: Annotated[
        bool,
        typer.Option("--even-production", help="Destroy what has the name of a production, too."),
    ] = False,
    profile: ProfileOption = None,
    role_arn: RoleOption = None,
    external_id: ExternalIdOption = None,
    state_bucket: StateBucketOption = None,
    state_region: StateRegionOption = None,
) -> None:
    """Delete every resource of the environment, the archive included unless it is a production."""
    from fleetcast.cli.devices import Progress, retirement_of
    from fleetcast.errors import UsageError
    from fleetcast.target import Target
    from stack.config import StackConfig
    from stack.deploy import AwsOptions, choose_engine
    from stack.deploy import destroy as destroy_stack
    from stack.deploy.access import client_as
    from stack.deploy.engine import refuse_production

    where = Target.named(target, region=region)
    options = AwsOptions(profile, role_arn, external_id, state_bucket, state_region)
    refuse_production(env, even=even_production)
    if where.name == "aws" and not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"destroying {env!r} on AWS needs --yes where nobody can be asked")
        typer.confirm(f"Destroy environment {env!r} on AWS in {where.region}?", abort=True)
    config = StackConfig.for_target(where.name, env, region=where.region)

    async def without_devices() -> None:
        as_whom = (lambda: client_as(where, options, "iot")) if where.name == "aws" else None
        work = retirement_of(where, env, as_whom)
        if not devices:
            await work.refuse(where.name)
            await work.retire_claim()
            return
        retired = await work.retire(Progress())
        typer.echo(f"retired {retired:,} devices")

    run_async(
        destroy_stack(
            config,
            where,
            choose_engine(where, engine),
            progress=typer.echo,
            options=options,
            even_production=even_production,
            before=without_devices,
        )
    )
    typer.echo(f"destroyed {env} on {where.name}")


@group.command(epilog="Example: fleetcast stack check --env prod --target aws --validate")
def check(
    env: EnvOption = "dev",
    target: TargetOption = "local",
    region: RegionOption = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Check the cdk.tf.json there, whoever synthesized it."),
    ] = None,
    validate: Annotated[
        bool, typer.Option("--validate", help="Let Terraform validate it, too.")
    ] = False,
    set_: SetOption = None,
    tag: TagOption = None,
    json_: JsonOption = False,
) -> None:
    """Check names, policies, encryption and alarms before anything is deployed. Exit 1 if wrong."""
    from fleetcast.errors import ExitCode
    from fleetcast.target import Target
    from stack.config import StackConfig
    from stack.deploy import terraform
    from stack.preflight import check as check_stack
    from stack.synth import synthesize

    where = Target.named(target, region=region)
    with tempfile.TemporaryDirectory(prefix="fleetcast-check-") as out:
        if folder is None:
            settings = stack_settings(set_, tag)
            config = StackConfig.for_target(where.name, env, region=where.region, **settings)
            folder = synthesize(config, Path(out))
        found = check_stack(folder, env)
        if validate:
            found += run_async(terraform.validate(folder))
    if json_:
        typer.echo(json.dumps([asdict(finding) for finding in found]))
    else:
        typer.echo("\n".join([*map(str, found), f"stack {env}: {len(found)} findings"]))
    if found:
        raise typer.Exit(ExitCode.VERDICT_FAIL)

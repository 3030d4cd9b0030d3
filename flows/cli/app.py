"""The command ``stillroom``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from components.base import parallel
from components.base.errors import UserError
from components.base.stopping import Stopped
from flows.cli import data, keep, model, project, record
from flows.cli.options import Folder, enter
from flows.workspace import exits

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Train a diffusion model on a collection of images: retrains every night and publishes the model in MLflow; "
    "each file can be traced to its data, code and parameters.",
    epilog="Examples: stillroom run; stillroom sample --label Flags --num 16 --out flags.png; stillroom ui",
)  # fmt: skip

app.add_typer(data.app, name="data")
app.command(help=project.HELP)(project.init)

Pull = Annotated[
    bool,
    typer.Option(
        "--pull", help="First bring the branch, the history of runs and the outputs from git's and DVC's remotes."
    ),
]
Push = Annotated[
    bool, typer.Option("--push", help="Then push outputs, commit the files that the run wrote, and push them.")
]

TrainOn = Annotated[
    str,
    typer.Option(
        "--train-on", metavar="POOL",
        help="Train on a worker of this Prefect work pool, and not here (docs/workers.md).",
        envvar="STILLROOM_TRAIN_ON", show_default="here",
    ),
]  # fmt: skip

# click's UsageError, of which typer has a copy without a public name: it has every member of BadParameter used here.
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__base__)


@app.command()
def run(
    directory: Folder = Path(),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would run and why (`stillroom plan`), and run nothing.")
    ] = False,
    force: Annotated[
        list[str] | None, typer.Option(help="Run this stage although it is up to date; may be repeated.")
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(help="Wait while another run uses this checkout; otherwise stop and print which one."),
    ] = True,
    pull: Pull = False,
    push: Push = False,
    train_on: TrainOn = "",
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="What processes batches of images.", envvar=parallel.ENGINE),
    ] = "local",
    address: Annotated[
        str,
        typer.Option(
            help="The Ray cluster: HOST:PORT, auto, or local for processes of this machine.", envvar=parallel.ADDRESS
        ),
    ] = "local",
) -> None:
    """Bring every stage up to date, register the model, and print where the results are."""
    if dry_run:
        from flows.keep import plan

        plan.show(enter(directory, writes=False), tuple(force or ()), push=push)
        return
    from flows.run import launch
    from flows.worker import pool

    os.environ |= {parallel.ENGINE: engine, parallel.ADDRESS: address}  # for the stages that DVC starts
    state = enter(directory)
    if train_on:
        from flows.worker import order

        order.check(state.root)
    pool.choose(train_on)
    launch.run(state, force=tuple(force or ()), wait=wait, pull=pull, push=push)


@app.command()
def look(directory: Folder = Path()) -> None:
    """Look at the sources of params.yaml for changes and write data/source.json, which stage `collect` reads."""
    from flows.data import look

    look.look_at_sources(enter(directory), say=typer.echo)


@app.command()
def status(directory: Folder = Path()) -> None:
    """Print which stages are stale and which version is registered."""
    from flows.run import launch

    launch.status(enter(directory, writes=False))


@app.command()
def sync(directory: Folder = Path()) -> None:
    """Write every pipeline run, version and alias that git and DVC hold to MLflow, where it is missing."""
    from flows.run import launch

    launch.sync(enter(directory))


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="NUMBER, NAME@NUMBER or NAME@ALIAS.")],
    reason: Annotated[str | None, typer.Option(help="Why, for the record.", show_default="asked for")] = None,
    approve: Annotated[
        bool,
        typer.Option("--approve", help="Approve a version that waits (register.approval: person)."),
    ] = False,
    directory: Folder = Path(),
) -> None:
    """Move alias `champion` to a version by hand, forward or back, with the reason on record."""
    from flows.registry import records
    from flows.run import launch

    if approve and reason is not None:
        raise UserError("--approve takes the gate's reason: leave --reason out, or --approve")
    state = enter(directory)
    number = records.number(state, version)
    launch.promote(state, number, None if approve else reason or typer.prompt("Reason"))


for command in (record.history, record.rollback, record.lineage, record.diff, record.reproduce):
    app.command()(command)
app.command()(keep.plan)
app.command()(keep.gc)
app.command()(keep.verify)
app.command()(keep.reap)
app.command()(keep.backfill)
app.command()(model.sample)
app.command()(model.pull)
app.command()(model.release)
app.command()(model.distil)
app.command()(model.ema)


@app.command()
def start(
    model: Annotated[
        str,
        typer.Argument(help="models:/NAME@ALIAS, models:/NAME/VERSION, the folder of a diffusers pipeline, or none."),
    ],
    directory: Folder = Path(),
) -> None:
    """Start training from the network of a model (warm start); `none` starts from a new network again."""
    from flows.model import start

    print(start.set_start(enter(directory), model))


PrefectPort = Annotated[int, typer.Option(help="Port of Prefect.", min=1, max=65535)]
MlflowPort = Annotated[int, typer.Option(help="Port of MLflow on loopback.", min=1, max=65535)]
Cron = Annotated[str, typer.Option(help="When to run the pipeline: minute hour day month weekday.")]
Timezone = Annotated[
    str | None,
    typer.Option(help="Of the times, such as Europe/Berlin.", show_default="this machine's, or TZ"),
]


@app.command()
def ui(
    directory: Folder = Path(),
    prefect_port: PrefectPort = 4200,
    mlflow_port: MlflowPort = 5000,
) -> None:
    """Serve MLflow (runs, models) and Prefect (flows) on loopback until Ctrl-C."""
    from flows.run import servers

    servers.serve(enter(directory), servers.Ports(prefect_port, mlflow_port))


@app.command()
def worker(
    pool: Annotated[str, typer.Option(help="The Prefect work pool to take trainings from.")] = "gpu",
    directory: Folder = Path(),
) -> None:
    """Train for another machine, with all GPUs of this one, until Ctrl-C; this checkout is only its workspace."""
    state = enter(directory)
    from flows.worker import serve

    serve.serve(state, pool)


@app.command()
def serve(
    directory: Folder = Path(),
    cron: Cron = "0 3 * * *",
    refresh: Annotated[
        str, typer.Option(help="When to take in new images besides, in the same way.", show_default="not besides")
    ] = "",
    timezone: Timezone = None,
    pull: Pull = False,
    push: Push = False,
    host: Annotated[str, typer.Option(help="Address that Prefect listens at; MLflow stays on loopback.")] = "127.0.0.1",
    prefect_port: PrefectPort = 4200,
    mlflow_port: MlflowPort = 5000,
    train_on: TrainOn = "",
) -> None:
    """Run the pipeline on a schedule, only when something changed, until Ctrl-C.

    Starts Prefect's and MLflow's servers, the deployments and a worker of pool `cpu`, all of which end with it.
    """
    from flows.run import access, deploy, notify, serve, servers, share
    from flows.worker import pool

    # What is wrong is told now, and not at night.
    state = enter(directory)
    access.bound(host)
    if train_on:
        from flows.worker import order

        order.check(state.root)
    pool.choose(train_on)
    when = deploy.Times.checked(cron, refresh, timezone)
    notify.addresses()
    if pull or push:
        share.followed(state.root)
    serve.serve(state, servers.Ports(prefect_port, mlflow_port, host), when, pull=pull, push=push)


@app.command()
def deploy(
    directory: Folder = Path(),
    cron: Cron = "0 3 * * *",
    refresh: Annotated[
        str, typer.Option(help="When to take in new images, in the same way; '' for never.")
    ] = "17 * * * *",
    timezone: Timezone = None,
) -> None:
    """Make the work pools and deployments on a Prefect server: PREFECT_API_URL, else that of this checkout."""
    from flows.run import deploy, servers

    state = enter(directory)
    when = deploy.Times.checked(cron, refresh, timezone)
    servers.chosen(state)
    deploy.deploy(state, when, say=typer.echo)


def main() -> None:
    """Run the command; exit code 2 is the user's error, 130 or 143 a stop; a bug keeps its traceback."""
    try:
        code = exits.exit_code(_command)
    except Stopped as stopped:
        name = "Ctrl-C" if stopped.number == signal.SIGINT else signal.Signals(stopped.number).name
        code = exits.fail(f"stopped by {name}; the same command continues from here", 128 + stopped.number)
    sys.exit(code)


def _command() -> None:
    """Run what the command line asks for; an error in it is one line in place of click's three."""
    try:
        code = app(prog_name="stillroom", standalone_mode=False)
    except _UsageError as error:
        why = error.format_message().rstrip(".")
        if "\n" in why:  # the help, when no command was given
            error.show()
            raise SystemExit(error.exit_code) from None
        raise UserError(f"{why}: see `{error.ctx.command_path} --help`" if error.ctx else why) from None
    except typer.Abort:
        raise UserError("no answer was given: nothing was done") from None
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    main()

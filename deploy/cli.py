"""`pixserve up`, `pixserve down` and `pixserve status`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

DEGRADED_EXIT = 1
NOT_RUNNING_EXIT = 3  # as `systemctl status` does

DataDir = Annotated[
    Path, typer.Option(envvar="PIXSERVE_DATA_DIR", help="Videos, models, index, logs.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("up")(up)
    app.command("down")(down)
    app.command("status")(status)


def up(
    profile: Annotated[
        str, typer.Option(envvar="PIXSERVE_PROFILE", help="Which models; see `pixserve profiles`.")
    ] = "mini",
    data_dir: DataDir = Path("pixserve-data"),
    port: Annotated[
        int, typer.Option(envvar="PIXSERVE_PORT", min=1, max=65535, help="Of the gateway.")
    ] = 8080,
    rpc_port: Annotated[
        int,
        typer.Option(
            envvar="PIXSERVE_RPC_PORT",
            min=0,
            max=65535,
            help="Of the search over gRPC, in the gateway too; 0: it is not served.",
        ),
    ] = 0,
    triton: Annotated[
        str,
        typer.Option(envvar="PIXSERVE_TRITON", help="HOST:PORT (gRPC) of a Triton that runs."),
    ] = "",
    milvus: Annotated[
        str, typer.Option(envvar="PIXSERVE_MILVUS", help="URI of a Milvus that runs.")
    ] = "",
    database: Annotated[
        str,
        typer.Option(envvar="PIXSERVE_DATABASE", help="SQLAlchemy URL of the catalogue."),
    ] = "",
    allow_random_weights: Annotated[
        bool,
        typer.Option(
            "--allow-random-weights",
            envvar="PIXSERVE_ALLOW_RANDOM_WEIGHTS",
            help="Serve models that were never trained: for benchmarks, the answers mean nothing.",
        ),
    ] = False,
    target: Annotated[
        str,
        typer.Option(envvar="PIXSERVE_TARGET", help="cpu, or cuda on a machine with a GPU."),
    ] = "cpu",
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when ready; leave it running.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds until everything must be ready.")
    ] = 120.0,
) -> None:
    """Start the whole stack on this machine: Triton, Milvus, the ingest worker, the gateway.

    What already runs can be used instead of starting it: --triton, --milvus, --database.

    Example: pixserve up --detach --data-dir ~/videos --port 8080
    """
    import asyncio

    import msgspec

    from deploy import board
    from deploy.launch import Plan, check, run, run_in_background
    from deploy.providers import parse_target
    from export.profiles import find_profile
    from gateway.settings import settings_from_environment

    find_profile(profile)  # a name that is none is told before anything is done
    given = {"triton": triton, "milvus": milvus, "database": database}
    external = {name: address for name, address in given.items() if address}
    settings = msgspec.structs.replace(
        settings_from_environment(),
        profile=profile,
        allow_random_weights=allow_random_weights,
        target=parse_target(target),
        data_dir=str(data_dir.expanduser().resolve()),
        port=port,
        rpc_port=rpc_port,
        **external,
    )
    plan = Plan(settings, frozenset(external), timeout)
    check(plan)
    board.export_if_possible(settings)
    stop_it = f"stop it with{'' if detach else ' Ctrl-C, or'}: pixserve down --data-dir {data_dir}"
    with board.Board(sys.stdout, stop_it) as shown:
        if detach:
            run_in_background(plan, shown)
        else:
            asyncio.run(run(plan, shown))


def down(data_dir: DataDir = Path("pixserve-data")) -> None:
    """Stop the stack of a data folder; its data stays."""
    from deploy.launch import stop

    folder = data_dir.expanduser().resolve()
    if stop(folder / "run"):
        typer.echo("stopped")
    else:
        typer.echo(f"no stack runs on {folder}")


def status(
    data_dir: DataDir = Path("pixserve-data"),
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show each part of the stack: state, version, address, since when.

    Exit code 0: all ready; 1: something is not; 3: no stack runs on the data folder.
    """
    import msgspec

    from deploy import board
    from deploy.state import read_state

    folder = data_dir.expanduser().resolve()
    state = read_state(folder / "run")
    if state is None:
        typer.echo("null" if json else f"no stack runs on {folder}; start one with: pixserve up")
        raise typer.Exit(NOT_RUNNING_EXIT)
    if json:
        typer.echo(msgspec.json.format(msgspec.json.encode(state), indent=2))
    else:
        board.show_table(state)
    raise typer.Exit(0 if state.ready else DEGRADED_EXIT)

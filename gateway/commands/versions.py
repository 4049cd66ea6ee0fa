"""`pixserve index …`: versions of the index, built beside each other, compared and switched."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands.local import DEFAULT_DATA_DIR, DataDir, run_local, told
from gateway.commands.terminal import shown
from gateway.errors import Conflict, InvalidRequest, NotFound, Unavailable

if TYPE_CHECKING:
    from ensembles.bundle import Bundle
    from gateway.client import Client
    from gateway.comparison import Comparison
    from gateway.doors import Doors
    from ingest.build_index import Built

MAX_SHOWN = 50  # videos that could not be built
READY_S = 5.0  # for Triton to say that it serves a bundle, and for a count of rows
USED_S = 10.0  # for the gateway to take a switch over
USED_POLL_S = 0.02
CATCH_UP_PRIORITY = -5  # uploads come first

index = typer.Typer(
    no_args_is_help=True,
    help="""Versions of the index: a collection a leg for each bundle of models.

A new bundle is exported, the stack restarted so that Triton serves both, and then: build, compare,
switch; rollback is the way back. Searches go on all the time, each on one version.
""",
)

Version = Annotated[str, typer.Argument(help="A bundle, such as mini-2.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(index, name="index")


@index.command("list")
def list_versions(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show each bundle, how many rows its index has, and which one searches use."""
    for line in run_local(data_dir, _listed):
        typer.echo(line)


@index.command()
def build(
    version: Version,
    lanes: Annotated[int, typer.Option(min=1, max=16, help="Videos at once.")] = 2,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Write every searchable video into a version's index, beside the one that searches use.

    Repeated, it only does what is missing. Where the version's encoders are those of the last
    analysis, nothing is decoded.
    """

    async def work(doors: "Doors") -> "Built":
        from ensembles.bundle import servable_bundles
        from ingest.build_index import build as build_index
        from ingest.sandbox import SANDBOX

        settings, count = doors.settings, 0

        def done() -> None:
            nonlocal count
            count += 1
            told("videos built", count)

        allowed = settings.allow_random_weights
        bundles = servable_bundles(settings.models_dir, settings.profile, allowed)
        try:
            async with _at(doors, version) as target:
                others = [bundle for bundle in bundles if bundle.id != version]
                return await build_index(target, others, lanes, done)
        finally:
            SANDBOX.close()

    built = run_local(data_dir, work, nice=True)
    for video_id, why in list(built.failed.items())[:MAX_SHOWN]:
        typer.echo(shown(f"{video_id}: {why}").plain, err=True)
    typer.echo(f"{built.built:,} videos built into {version}, {len(built.failed):,} failed")
    raise typer.Exit(1 if built.failed else 0)


@index.command()
def compare(
    version: Version,
    queries: Annotated[int, typer.Option(min=1, max=2_000, help="Asked of both.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Ask a version and the current one what segments say: recall, overlap, the right video."""

    async def work(doors: "Doors") -> "Comparison":
        from gateway.comparison import compare as asked_both
        from gateway.comparison import questions

        count = 0

        def progress() -> None:
            nonlocal count
            count += 1
            told("queries", count)

        async with _at(doors, version) as other:
            return await asked_both(doors, other, questions(doors.catalogue, queries), progress)

    comparison = run_local(data_dir, work)
    if as_json:
        import msgspec

        typer.echo(msgspec.json.format(msgspec.json.encode(comparison), indent=2).decode())
    else:
        _print(comparison)


@index.command()
def switch(
    version: Version,
    force: Annotated[
        bool, typer.Option("--force", help="Although videos are missing in it.")
    ] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Make searches use another version; what it misses is queued."""

    async def work(doors: "Doors") -> tuple[float, int]:
        from ingest.build_index import unbuilt

        async with _at(doors, version) as target:
            missing = () if force else await unbuilt(target)
            if missing:
                raise Conflict(
                    f"{len(missing)} videos are not in {version} as they should be: pixserve index "
                    f"build {version}, or switch with --force and have the workers do it"
                )
            return await _switch(target, data_dir)

    _tell(version, *run_local(data_dir, work))


@index.command()
def rollback(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Make searches use the version before the last switch again."""

    async def work(doors: "Doors") -> tuple[str, float, int]:
        version = doors.catalogue.versions.previous()
        if version is None:
            raise NotFound("there is no version to go back to: there was no switch, or it is gone")
        async with _at(doors, version) as target:
            return version, *await _switch(target, data_dir)

    _tell(*run_local(data_dir, work))


@index.command()
def drop(version: Version, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Remove a version's collections and its tokens; the bundle of its models stays."""

    async def work(doors: "Doors") -> None:
        from gateway.serving import bundle_named
        from ingest.build_index import drop as drop_index

        await drop_index(doors, bundle_named(doors.settings, version))

    run_local(data_dir, work)
    typer.echo(f"the index of {version} is gone")


@asynccontextmanager
async def _at(doors: "Doors", version: str) -> "AsyncIterator[Doors]":
    """Give the doors to another version."""
    from gateway.serving import bundle_named
    from gateway.triton import Triton

    bundle = bundle_named(doors.settings, version)
    if bundle.id == doors.bundle.id:
        raise InvalidRequest(f"searches use {version} already: name another version")
    triton = Triton(doors.settings.triton, bundle)
    try:
        yield replace(doors, bundle=bundle, triton=triton)
    finally:
        await triton.close()


async def _switch(target: "Doors", data_dir: Path) -> tuple[float, int]:
    """Switch; return how long it took until a search uses it, and how many videos it misses."""
    from ingest.build_index import unbuilt

    name, catalogue = target.bundle.id, target.catalogue
    if not await target.triton.ready(timeout_s=READY_S):
        raise Unavailable("triton", f"Triton does not serve {name}: restart the stack")
    await target.milvus.ensure_collections(target.bundle, timeout_s=READY_S)
    with _gateway(data_dir) as client:
        start = time.monotonic()
        catalogue.versions.switch(name)
        await asyncio.to_thread(_wait_until_used, client, name)
        took_s = time.monotonic() - start
    missing = await unbuilt(target)
    catalogue.control.enqueue(missing, "reindex", CATCH_UP_PRIORITY)
    return took_s, len(missing)


@contextmanager
def _gateway(data_dir: Path) -> "Iterator[Client | None]":
    """Give a connected client of the stack's gateway; None where none runs here."""
    from deploy.state import read_state
    from gateway.client import Client

    state = read_state(data_dir.expanduser().resolve() / "run")
    if state is None:
        yield None
        return
    with Client(state.address) as client:
        client.ready()
        yield client


def _wait_until_used(client: "Client | None", version: str) -> None:
    """Wait until the gateway searches by a version.

    Raises:
        Unavailable: it does not, and its log says why.
    """
    until = time.monotonic() + USED_S
    while client is not None and client.ready().model_version != version:
        if time.monotonic() > until:
            raise Unavailable(
                "gateway", f"{version} is current, but the gateway does not use it: see its log"
            )
        time.sleep(USED_POLL_S)


async def _listed(doors: "Doors") -> list[str]:
    from ensembles.bundle import servable_bundles

    settings, versions = doors.settings, doors.catalogue.versions
    allowed = settings.allow_random_weights
    bundles = servable_bundles(settings.models_dir, settings.profile, allowed)
    current, previous = versions.current(), versions.previous()
    marks = {previous: "  (rollback goes here)", current: "  (searches use it)"}
    return [f"{b.id}: {await _rows(doors, b)}{marks.get(b.id, '')}" for b in bundles]


async def _rows(doors: "Doors", bundle: "Bundle") -> str:
    legs = await doors.milvus.legs(timeout_s=READY_S)
    try:
        counts = [await doors.milvus.count(bundle, leg, timeout_s=READY_S) for leg in legs]
    except Unavailable:
        return "no index"
    return ", ".join(f"{leg} {count:,}" for leg, count in zip(legs, counts, strict=True))


def _tell(version: str, took_s: float, missing: int) -> None:
    queued = f"; {missing:,} videos are queued for it: pixserve jobs" if missing else ""
    typer.echo(f"searches use {version} since {took_s:.2f} s after the switch{queued}")


def _print(comparison: "Comparison") -> None:
    one, other = comparison.versions
    typer.echo(f"{comparison.queries:,} queries, {one} beside {other}")
    for leg in comparison.legs:
        typer.echo(
            f"{leg.leg}: rows {leg.rows[0]:,} and {leg.rows[1]:,}, recall@100 to brute force "
            f"{leg.recall[0]:.3f} and {leg.recall[1]:.3f}, first ten in common {leg.overlap:.1%}"
        )
    typer.echo(
        f"whole searches: right video among the first ten {comparison.right_video[0]:.1%} and "
        f"{comparison.right_video[1]:.1%}, first ten in common {comparison.overlap:.1%}"
    )

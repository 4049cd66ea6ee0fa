"""`pixserve bench ingest` and `kills`: how fast videos can be found, and what survives kills."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.errors import InvalidRequest

if TYPE_CHECKING:
    from rich.table import Table

    from deploy.demo.render import DemoVideo
    from loadtest.bench_ingest import IngestReport
    from loadtest.bench_ingest_media import Recipe
    from loadtest.bench_ingest_scenes import ScenesReport
    from loadtest.bench_ingest_way import WayReport
    from loadtest.stack import MeasuredStack

DataDir = Annotated[
    Path, typer.Option(envvar="PIXSERVE_DATA_DIR", help="Of the stack that is measured.")
]
Json = Annotated[Path | None, typer.Option(help="Also write the report to this file.")]

MEDIA = "bench"  # in the data folder: the files that were made, for the next run
KEYFRAMES = ("cuts", "fixed")
WAYS = ("default", "full", "content", "adaptive")
DEFAULT_MINUTES = (1.0, 10.0)
DEFAULT_PIX = (100, 1_000)

INGEST_HELP = """Ingest long generated videos: speed, stages, processor time, memory.

[bold]Examples[/bold]

  pixserve bench ingest --minutes 1

  pixserve bench ingest --minutes 1 --minutes 10 --minutes 60 --height 720 --height 1080

  pixserve bench ingest --minutes 1 --together 8

Each video is made once and kept in the data folder. Beside it, in the same run, a process decodes
all of it with PyAV and keeps a frame every five seconds. --together uploads so many different
videos of each kind at once and tells their speed alone; --demo those of the demo.
"""
DEEPEN_HELP = """Invest in a video step by step, and time each deeper look.

[bold]Example[/bold]

  pixserve bench deepen --minutes 10 --pix 100 --pix 1000

Beside it the same file is ingested anew with each of the sums.
"""
KILLS_HELP = """Kill the worker at random moments of an ingest, and compare with one without kills.

[bold]Example[/bold]

  pixserve bench kills --videos 30 --kills 20 --seed 1

Catalogue, index, pictures and tokens must be the same, with no row twice and none that belongs to
no video. Nothing else should use the stack meanwhile. The supervisor waits longer before each
restart, up to 30 s. Exit code 1: something differs.
"""


def register(bench: typer.Typer) -> None:
    """Add the commands."""
    bench.command("ingest", help=INGEST_HELP)(ingest)
    bench.command("deepen", help=DEEPEN_HELP)(deepen)
    bench.command("kills", help=KILLS_HELP)(kills)
    bench.command("scenes")(scenes)


def ingest(
    data_dir: DataDir = Path("pixserve-data"),
    minutes: Annotated[
        list[float] | None, typer.Option(min=0.1, max=360, help="Repeatable; default: 1 and 10.")
    ] = None,
    height: Annotated[
        list[int] | None, typer.Option(min=90, max=2160, help="Repeatable; default: 720.")
    ] = None,
    keyframes: Annotated[
        list[str] | None, typer.Option(help="cuts, fixed; repeatable; default: both.")
    ] = None,
    together: Annotated[
        int, typer.Option(min=0, max=1_000, help="So many of a kind at once; 0: one by one.")
    ] = 0,
    demo: Annotated[bool, typer.Option("--demo", help="The demo videos instead.")] = False,
    json: Json = None,
) -> None:
    """Ingest long generated videos, or those of the demo."""
    import asyncio

    from loadtest.bench_ingest_media import Recipe, made
    from loadtest.bench_ingest_way import bench_way
    from loadtest.stack import find_stack
    from loadtest.tables import show, write_report

    if demo:
        _demo(data_dir, json)
        return
    chosen = tuple(keyframes or KEYFRAMES)
    if unknown := set(chosen) - set(KEYFRAMES):
        raise InvalidRequest(f"--keyframes takes cuts or fixed, got {', '.join(sorted(unknown))}")
    stack = find_stack(data_dir)
    recipes = [
        Recipe(60 * long, high, where)  # type: ignore[arg-type]  # checked above
        for high in height or (720,)
        for long in minutes or DEFAULT_MINUTES
        for where in chosen
    ]
    if together:
        write_report(json, [_together(stack, recipe, together) for recipe in recipes])
        return
    reports = []
    for recipe in recipes:
        with _share(f"making {recipe.name}") as told:
            path = made(recipe, stack.data_dir / MEDIA, told)
        with _steps(recipe.name) as step:
            reports.append(asyncio.run(bench_way(stack, recipe, path, step)))
        show(_table(reports[-1]))
    write_report(json, reports)


def deepen(
    data_dir: DataDir = Path("pixserve-data"),
    minutes: Annotated[float, typer.Option(min=0.1, max=360)] = 10.0,
    height: Annotated[int, typer.Option(min=90, max=2160)] = 720,
    pix: Annotated[
        list[int] | None, typer.Option(min=1, help="Sums; repeatable; default: 100 and 1000.")
    ] = None,
    json: Json = None,
) -> None:
    """Invest step by step, and time each deeper look."""
    from rich.table import Table

    from loadtest.bench_deepen import bench_deepen
    from loadtest.bench_ingest_media import Recipe, made
    from loadtest.stack import find_stack
    from loadtest.tables import show, write_report

    stack, recipe = find_stack(data_dir), Recipe(60 * minutes, height)
    with _share(f"making {recipe.name}") as told:
        path = made(recipe, stack.data_dir / MEDIA, told)
    with _steps(recipe.name) as step:
        steps = bench_deepen(stack, path, sorted(set(pix or DEFAULT_PIX)), step)
    table = Table("PIX", "frames", "deeper look, s", "from nothing, s", title=recipe.name)
    for one in steps:
        seconds = (f"{one.deeper_s:.2f}", f"{one.at_once_s:.2f}")
        table.add_row(str(one.pix), str(one.frames), *seconds)
    show(table)
    write_report(json, steps)


def kills(
    data_dir: DataDir = Path("pixserve-data"),
    videos: Annotated[int, typer.Option(min=1, max=1_000)] = 30,
    times: Annotated[int, typer.Option("--kills", min=0, max=1_000)] = 20,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    json: Json = None,
) -> None:
    """Kill the worker again and again, and compare."""
    import asyncio

    from loadtest.bench_ingest_kills import bench_kills, recipes
    from loadtest.bench_ingest_media import made
    from loadtest.stack import find_stack
    from loadtest.tables import progress, write_report

    stack = find_stack(data_dir)
    chosen = recipes(videos, seed)
    with progress("making videos", videos) as advance:
        files = []
        for recipe in chosen:
            files.append(made(recipe, stack.data_dir / MEDIA, lambda _: None))
            advance()
    with _steps("kills") as step:
        report = asyncio.run(bench_kills(stack, files, kills=times, seed=seed, progress=step))
    typer.echo(
        f"{report.videos} videos: {report.undisturbed_s:.1f} s undisturbed, "
        f"{report.disturbed_s:.1f} s with {report.kills} kills, under {report.held_when_killed} of "
        f"which a video was worked on; {len(report.failed)} failed, {len(report.differences)} "
        f"differences, {report.duplicates} duplicates, {len(report.findings)} findings of verify; "
        f"tokens at most {report.tokens_apart:.1g} apart"
    )
    for line in (*report.failed, *report.differences, *map(str, report.findings)):
        typer.echo(line)
    write_report(json, report)
    raise typer.Exit(0 if report.passed else 1)


def scenes(
    data_dir: DataDir = Path("pixserve-data"),
    seconds: Annotated[float, typer.Option(min=5, help="Of each file.")] = 60.0,
    height: Annotated[int, typer.Option(min=90, max=2160)] = 360,
    seeds: Annotated[
        list[int] | None,
        typer.Option("--seeds", "--seed", min=0, help="Repeatable; default: 1, 2."),
    ] = None,
    json: Json = None,
) -> None:
    """Find known cuts by both tiers and by PySceneDetect; needs no running stack."""
    from loadtest.bench_ingest_media import Recipe, made
    from loadtest.bench_ingest_scenes import TOLERANCE_S, bench_scenes
    from loadtest.tables import progress, show, write_report

    recipes = [
        Recipe(seconds, height, where, seed)  # type: ignore[arg-type]
        for seed in seeds or (1, 2)
        for where in KEYFRAMES
    ]
    paths = []
    for recipe in recipes:
        with _share(f"making {recipe.name}") as told:
            paths.append(made(recipe, data_dir.expanduser().resolve() / MEDIA, told))
    with progress("looking for cuts", len(recipes)) as advance:
        reports = []
        for recipe, path in zip(recipes, paths, strict=True):
            reports.append(bench_scenes(recipe, path))
            advance()
    typer.echo(f"{height}p, {seconds:g} s each: F1 at ±{TOLERANCE_S} s, and CPU seconds.")
    typer.echo("content and adaptive are PySceneDetect's detectors as they come.")
    show(_scenes_table(reports))
    write_report(json, reports)


def _scenes_table(reports: "Sequence[ScenesReport]") -> "Table":
    from rich.table import Table

    from loadtest.bench_ingest_scenes import pooled

    table = Table("keyframes, seed", "cuts", *WAYS)
    for report in reports:
        recipe, ways = report.recipe, (getattr(report, way) for way in WAYS)
        cells = (f"{way.f1:.3f}  {way.cpu_s:.2f}" for way in ways)
        table.add_row(f"{recipe.keyframes}, {recipe.seed}", str(report.cuts), *cells)
    table.add_section()
    for where in KEYFRAMES:
        these = [report for report in reports if report.recipe.keyframes == where]
        cells = (f"{way.f1:.3f}  {way.cpu_s:.2f}" for way in (pooled(these, w) for w in WAYS))
        table.add_row(f"{where}, all", str(sum(report.cuts for report in these)), *cells)
    return table


def _demo(data_dir: Path, json: Path | None) -> None:
    """Ingest the demo videos once more, as a new creator, and delete them again."""
    from deploy.demo.render import render_all
    from loadtest.stack import find_stack
    from loadtest.tables import write_report

    stack = find_stack(data_dir)
    videos = render_all(stack.data_dir / "demo", lambda _name, _done, _total: None)
    write_report(json, _at_once(stack, "demo", videos))


def _together(stack: "MeasuredStack", recipe: "Recipe", count: int) -> "IngestReport":
    """Ingest so many videos of a kind at once."""
    from msgspec.structs import replace

    from deploy.demo.render import DemoVideo
    from gateway.schemas import VideoMetadata
    from loadtest.bench_ingest_media import made

    videos = []
    for seed in range(recipe.seed, recipe.seed + count):
        one = replace(recipe, seed=seed)
        with _share(f"making {one.name}") as told:
            path = made(one, stack.data_dir / MEDIA, told)
        metadata = VideoMetadata(title=path.stem, creator_id="bench")
        videos.append(DemoVideo(path.stem, path, None, one.duration_s, metadata))
    return _at_once(stack, f"{recipe.height_px}p, {recipe.keyframes}", videos)


def _at_once(stack: "MeasuredStack", kind: str, videos: "Sequence[DemoVideo]") -> "IngestReport":
    """Ingest videos that are all uploaded at the beginning, and say how fast that was."""
    from gateway.client import Client
    from loadtest.bench_ingest import bench_ingest
    from loadtest.tables import progress

    with Client(stack.gateway) as client, progress("ingest", 2 * len(videos)) as advance:
        report = bench_ingest(client, videos, lambda _what: advance())
    typer.echo(
        f"{kind}: {report.videos} videos, {report.video_s:.0f} s: {report.wall_s:.1f} s of wall "
        f"time ({report.upload_s:.1f} s for the uploads), {report.times_real_time:.0f}× real time"
    )
    for failure in report.failed:
        typer.echo(f"failed: {failure}")
    return report


def _table(report: "WayReport") -> "Table":
    from rich.table import Table

    recipe, rival = report.recipe, report.everything
    title = (
        f"{recipe.name}, {report.mib:.1f} MiB: {report.searchable_s:.2f} s until it is found, "
        f"{report.times_real_time:.0f}× real time; worker at most {report.worker_peak_mib:.0f} MiB"
    )
    table = Table("stage", "s", title=title, title_justify="left")
    for name, seconds in report.stages_s.items():
        table.add_row(name, f"{seconds:.3f}")
    table.add_section()
    table.add_row(f"CPU until pixels, {report.frames} frames", f"{report.cpu.until_pixels:.2f}")
    table.add_row("of that the worker with its sandbox", f"{report.cpu.worker:.2f}")
    table.add_row("CPU of decoding sound", f"{report.cpu.sound:.2f}")
    table.add_row("CPU of the whole stack", f"{report.cpu.total:.2f}")
    table.add_row(f"CPU of decoding everything, {rival.frames} frames", f"{rival.cpu_s:.2f}")
    table.add_row("that is so many times as much", f"{report.less_cpu:.1f}")
    return table


@contextmanager
def _share(what: str) -> Iterator[Callable[[float], None]]:
    """Show a bar; what is given moves it to a share."""
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda share: bar.update(task, completed=share)


@contextmanager
def _steps(what: str) -> Iterator[Callable[[str], None]]:
    """Show what is being done now."""
    from rich.console import Console

    with Console(stderr=True).status(what) as status:
        yield lambda step: status.update(f"{what}: {step}")

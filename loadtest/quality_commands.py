"""`pixserve bench quality`, `cutoff`, `inputs` and `duplicates`: answers about made-up sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.errors import InvalidRequest
from training.world.absent import Part

if TYPE_CHECKING:
    from ensembles.bundle import Bundle
    from loadtest.gathering import Split
    from loadtest.stack import MeasuredStack

FIT_SEED = 3
JUDGE_SEED = 1  # the evaluation's

DataDir = Annotated[
    Path, typer.Option(envvar="PIXSERVE_DATA_DIR", help="Of the stack that is measured.")
]
Segments = Annotated[int, typer.Option(min=20, help="How many a made-up set has.")]
Json = Annotated[Path | None, typer.Option(help="Also write the report to this file.")]


def register(bench: typer.Typer) -> None:
    """Add the commands."""
    bench.command()(quality)
    bench.command()(cutoff)
    bench.command()(inputs)
    bench.command()(duplicates)


def quality(
    data_dir: DataDir = Path("pixserve-data"),
    segments: Segments = 300,
    seed: Annotated[int, typer.Option(help="Of the set.")] = JUDGE_SEED,
    json: Json = None,
) -> None:
    """Retrieval figures of each leg, fusion rule, coherence, grouping, PIX weight and the cut-off.

    Every caption of a made-up set is asked once of a running stack; each way to rank what the legs
    found goes through the search's own functions.
    """
    from gateway.settings import Settings
    from loadtest.bench_quality import QualityReport, cutoff_line, quality_rows, quality_tables
    from loadtest.fit_cutoff import cutoff_figures
    from loadtest.ranking import Rules
    from loadtest.tables import show, write_report

    stack, bundle = _stack(data_dir)
    split = _gather(stack, seed, segments, "judge")
    report = QualityReport(
        model_version=bundle.id,
        seed=seed,
        segments=segments,
        questions=len(split.answerable),
        rows=tuple(quality_rows(split)),
        cutoff=cutoff_figures(split, Rules(), Settings().cutoff),
    )
    for table in quality_tables(report):
        show(table)
    typer.echo(cutoff_line(report.cutoff))
    write_report(json, report)


def cutoff(
    data_dir: DataDir = Path("pixserve-data"),
    segments: Segments = 300,
    fit_seed: Annotated[int, typer.Option(help="Of the set to fit on.")] = FIT_SEED,
    judge_seed: Annotated[int, typer.Option(help="Of the set to judge by.")] = JUDGE_SEED,
    judge_part: Annotated[
        Part, typer.Option(help="Which absent things to judge by: judge, confirm or reserve.")
    ] = "judge",
    json: Json = None,
) -> None:
    """Fit the cut-off on one made-up set and show what it, and the default, do to another one.

    It is the highest that loses no more than 3 % of the true hits of the set that it is fitted on.
    Who has seen what a part's queries find judges by another part: --judge-part.
    """
    from gateway.settings import Settings
    from loadtest.bench_quality import cutoff_line
    from loadtest.fit_cutoff import CutoffReport, cutoff_figures, fit_cutoff
    from loadtest.ranking import Rules
    from loadtest.tables import write_report

    if fit_seed == judge_seed:
        raise InvalidRequest("fit and judge by different sets: give two seeds that differ")
    if judge_part == "fit":
        raise InvalidRequest("the things of the part fit are fitted on: judge by those of another")
    stack, bundle = _stack(data_dir)
    to_fit = _gather(stack, fit_seed, segments, "fit")
    judged = _gather(stack, judge_seed, segments, judge_part)
    rules = Rules()
    found = fit_cutoff(to_fit, rules)
    report = CutoffReport(
        model_version=bundle.id,
        cutoff=found,
        fitted_on=cutoff_figures(to_fit, rules, found),
        judged_on=cutoff_figures(judged, rules, found),
        default=cutoff_figures(judged, rules, Settings().cutoff),
    )
    typer.echo(f"fitted on {cutoff_line(report.fitted_on)}")
    typer.echo(f"judged on {cutoff_line(report.judged_on)}")
    typer.echo(f"default, judged on {cutoff_line(report.default)}")
    write_report(json, report)


def inputs(
    data_dir: DataDir = Path("pixserve-data"),
    segments: Segments = 300,
    seed: Annotated[int, typer.Option(help="Of the set.")] = JUDGE_SEED,
    json: Json = None,
) -> None:
    """Do a picture with words, and words with `not`, find what each of them says?"""
    from gateway.client import Client
    from loadtest.bench_inputs import bench_inputs, inputs_lines
    from loadtest.gathering import segments_of_set
    from loadtest.tables import write_report
    from training.terminal import steps

    stack, _ = _stack(data_dir)
    with steps() as progress, Client(stack.gateway) as client:
        found, creator = segments_of_set(stack, seed, segments, progress)
        report = bench_inputs(client, found, creator, lambda: progress("searching", 0, 1))
    typer.echo("\n".join(inputs_lines(report)))
    write_report(json, report)


def duplicates(
    data_dir: DataDir = Path("pixserve-data"),
    segments: Segments = 300,
    seed: Annotated[int, typer.Option(help="Of the set.")] = JUDGE_SEED,
    files: Annotated[int, typer.Option(min=1, help="How many of its files are copied.")] = 6,
    json: Json = None,
) -> None:
    """How many copies at half the quality are taken for near-duplicates, and what else is?"""
    from loadtest.bench_duplicates import bench_duplicates
    from loadtest.duplicates import duplicates_lines
    from loadtest.tables import write_report
    from training.terminal import steps

    stack, _ = _stack(data_dir)
    with steps() as progress:
        report = bench_duplicates(stack, seed, segments, files, progress)
    typer.echo("\n".join(duplicates_lines(report)))
    write_report(json, report)


def _stack(data_dir: Path) -> "tuple[MeasuredStack, Bundle]":
    import asyncio

    from loadtest.stack import find_stack, measured_bundle

    stack = find_stack(data_dir)
    return stack, asyncio.run(measured_bundle(stack))


def _gather(stack: "MeasuredStack", seed: int, segments: int, part: Part) -> "Split":
    import logging

    from loadtest.gathering import gather_split
    from training.terminal import steps

    logging.getLogger("pixserve").setLevel(logging.ERROR)  # how Milvus is spoken to is no news
    with steps() as progress:
        return gather_split(stack, seed, segments, part, progress)

"""`pixserve eval` and `pixserve train …`."""

from pathlib import Path
from typing import Annotated

import typer

from training.terminal import (
    HERE,
    DataDir,
    Out,
    needs_training_packages,
    open_catalogue,
    read_report,
    show,
    steps,
    write_report,
)
from training.train_commands import train

Plot = Annotated[Path | None, typer.Option(help="Also draw it into this file, as SVG.")]
Seed = Annotated[int, typer.Option(help="Of the set.")]
evaluation = typer.Typer(
    invoke_without_command=True,
    help="Measure how well a running stack answers, on videos that are made up for it.",
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(evaluation, name="eval")
    app.add_typer(train, name="train")


@evaluation.callback()
def evaluate(
    context: typer.Context,
    data_dir: DataDir = HERE,
    segments: Annotated[int, typer.Option(min=2, help="How many the set has.")] = 1_000,
    pix: Annotated[int, typer.Option(min=0, help="Invested in each video.")] = 1_000,
    seed: Seed = 1,
    out: Out = None,
    plot: Plot = None,
    compare: Annotated[
        Path | None, typer.Option(help="An earlier report, to compare with this one.")
    ] = None,
) -> None:
    """Ask a running stack the captions of a made-up set: recall, MRR and nDCG by query type.

    The set's videos are written into DATA_DIR/evaluation and ingested once; searches look at them
    alone. Example: pixserve eval --segments 60 --out today.json
    """
    if context.invoked_subcommand is not None:
        return
    from loadtest.stack import find_stack
    from training.evaluation.evaluate import evaluate as ask
    from training.evaluation.report import EvalReport, compare_reports

    before = None if compare is None else read_report(compare, EvalReport)
    stack = find_stack(data_dir)
    folder = stack.data_dir / "evaluation"
    with steps() as progress:
        report = ask(stack.gateway, folder, progress, seed=seed, segments=segments, pix=pix)
    from training.evaluation.tables import eval_chart, eval_table, gain_lines, versus_table

    show(eval_table(report))
    for line in gain_lines(report):
        typer.echo(line)
    write_report(out, report)
    if plot is not None:
        plot.write_text(eval_chart(report), encoding="utf-8")
    if before is not None:
        show(versus_table(before, compare_reports(report, before)))


@evaluation.command("pairs")
def pairs(
    out: Annotated[Path, typer.Option(help="The file to write, for pixserve train.")],
    data_dir: DataDir = HERE,
    segments: Annotated[int, typer.Option(min=2, help="How many the set has.")] = 1_000,
    pix: Annotated[int, typer.Option(min=0, help="Invested in each video.")] = 1_000,
    seed: Seed = 2,
) -> None:
    """Ingest a made-up set and write its captions with their segments as pairs to train on.

    Example: pixserve eval pairs --segments 400 --out pairs.jsonl
    """
    from loadtest.stack import find_stack

    with needs_training_packages():
        from training.evaluation.set_pairs import set_pairs
        from training.tuning.pairs import write_lines
    settings, catalogue = open_catalogue(data_dir)
    stack = find_stack(data_dir)
    folder = settings.data_path / "evaluation"
    with steps() as progress:
        found = set_pairs(
            stack.gateway, catalogue, folder, progress, seed=seed, segments=segments, pix=pix
        )
    write_lines(out, found)
    typer.echo(f"{len(found)} pairs are in {out}; go on with: pixserve train fusion --pairs {out}")


@evaluation.command("pix")
def evaluate_pix(
    data_dir: DataDir = HERE,
    videos: Annotated[int, typer.Option(min=1, help="How many, of 160 s each.")] = 16,
    seed: Seed = 1,
    out: Out = None,
    plot: Plot = None,
) -> None:
    """Ingest long videos with short events at 0, 10, 100 and 1,000 PIX: what of them is found?

    Example: pixserve eval pix --videos 4 --plot recall.svg
    """
    from loadtest.stack import find_stack
    from training.evaluation.long_videos import evaluate_pix as ask
    from training.evaluation.tables import pix_chart, pix_table

    stack = find_stack(data_dir)
    folder = stack.data_dir / "evaluation"
    with steps() as progress:
        report = ask(stack.gateway, folder, progress, seed=seed, videos=videos)
    show(pix_table(report))
    write_report(out, report)
    if plot is not None:
        plot.write_text(pix_chart(report), encoding="utf-8")

"""`pixserve train …`: fine-tuning on a user's data, a command a step."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.errors import ConfigurationError, InvalidRequest
from training.terminal import (
    HERE,
    DataDir,
    Out,
    epochs_shown,
    needs_training_packages,
    open_catalogue,
    show,
    steps,
    write_report,
)

if TYPE_CHECKING:
    from ensembles.bundle import Bundle
    from gateway.catalogue.catalogue import Catalogue
    from gateway.settings import Settings
    from training.evaluation.bootstrap import Comparison
    from training.tuning.fit import FitSettings
    from training.tuning.runs import Run

RunFolder = Annotated[
    Path | None, typer.Option("--run", help="The run's folder; by default DATA_DIR/training/KIND.")
]
Epochs = Annotated[int | None, typer.Option(min=1, help="At most.")]
Batch = Annotated[int | None, typer.Option(min=2, help="Pairs a step.")]
Rate = Annotated[float | None, typer.Option(min=0, help="Of AdamW.")]
Patience = Annotated[int | None, typer.Option(min=1, help="Epochs without a better one.")]
TrainSeed = Annotated[int | None, typer.Option("--seed", help="Of the split and the order.")]

train = typer.Typer(
    no_args_is_help=True,
    help="Fine-tune on your own data: train, validate, export, compare, promote or keep.",
)


@train.command()
def fusion(
    pairs: Annotated[Path, typer.Option(help="Lines of query and segment, as JSON.")],
    data_dir: DataDir = HERE,
    run: RunFolder = None,
    epochs: Epochs = None,
    batch: Batch = None,
    learning_rate: Rate = None,
    patience: Patience = None,
    seed: TrainSeed = None,
) -> None:
    """Train the current bundle's fusion on pairs of queries and the segments they are to find.

    A line of the file: {"query": "a red kite", "segment": "ID"}, with an ID that a search returned.
    An interrupted run goes on when it is started again.
    """
    with needs_training_packages():
        from training.tuning.finetune import train_fusion
        from training.tuning.fit import FitSettings

    settings, catalogue = open_catalogue(data_dir)
    wanted = _wanted(FitSettings(), epochs, batch, learning_rate, patience, seed)
    folder = run or settings.data_path / "training" / "fusion"
    with epochs_shown() as progress:
        done = train_fusion(
            pairs, _current(settings, catalogue), catalogue, settings, folder, wanted, progress
        )
    _tell(done, folder)


@train.command()
def clip(
    images: Annotated[Path, typer.Option(help="A folder of images and captions.jsonl.")],
    data_dir: DataDir = HERE,
    run: RunFolder = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="The folder of CLIP weights that was exported.")
    ] = None,
    epochs: Epochs = None,
    batch: Batch = None,
    learning_rate: Rate = None,
    patience: Patience = None,
    seed: TrainSeed = None,
) -> None:
    """Train the current bundle's CLIP towers on captioned images, by low-rank adapters (LoRA).

    A line of captions.jsonl: {"file": "1.jpg", "caption": "a red kite"}. An interrupted run goes on
    when it is started again.
    """
    with needs_training_packages():
        from training.tuning.lora import SETTINGS, train_clip

    settings, catalogue = open_catalogue(data_dir)
    wanted = _wanted(SETTINGS, epochs, batch, learning_rate, patience, seed)
    folder = run or settings.data_path / "training" / "clip"
    bundle = _current(settings, catalogue)
    with epochs_shown() as progress:
        done = train_clip(images, bundle, settings.models_dir, folder, wanted, progress, checkpoint)
    _tell(done, folder)


@train.command()
def validate(folder: Annotated[Path, typer.Argument(help="Of a run.")]) -> None:
    """Show how a run's weights do on the pairs that were held out."""
    with needs_training_packages():
        from training.tuning.runs import read_run
    _tell(read_run(folder), folder)


@train.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Of a run.")], data_dir: DataDir = HERE
) -> None:
    """Export a run's weights as a new bundle beside the current one, which stays current."""
    with needs_training_packages():
        from training.tuning.candidates import export_run
        from training.tuning.runs import read_run

    settings, _ = open_catalogue(data_dir)
    with steps() as progress:
        bundle = export_run(read_run(folder), folder, settings.models_dir, progress)
    typer.echo(
        f"{bundle.id} is exported. Compare it: pixserve train compare {folder} {bundle.id}; then "
        f"pixserve train promote {bundle.id}, or pixserve train keep {bundle.id} to drop it"
    )


@train.command()
def compare(
    folder: Annotated[Path, typer.Argument(help="Of the run that held pairs out.")],
    candidate: Annotated[str, typer.Argument(help="A bundle, e.g. mini-2.")],
    current: Annotated[str, typer.Argument(help="By default the one that is current.")] = "",
    data_dir: DataDir = HERE,
) -> None:
    """Compare two bundles' exported files on the pairs that a run held out."""
    with needs_training_packages():
        from training.tuning.contest import compare_bundles
        from training.tuning.runs import read_run

    settings, catalogue = open_catalogue(data_dir)
    base = current or _current(settings, catalogue).id
    contest = compare_bundles(read_run(folder), folder, (candidate, base), settings, catalogue)
    from training.evaluation.tables import measures_table

    show(measures_table(contest.measures, f"{contest.pairs} held-out pairs"))
    _verdict(candidate, base, contest.comparison)


@train.command()
def promote(
    bundle: Annotated[str, typer.Argument(help="E.g. mini-2.")], data_dir: DataDir = HERE
) -> None:
    """Make a bundle the one that searches use; all videos' rows are made from their tokens."""
    with needs_training_packages():
        from training.tuning.promote import promote as make_current

    settings, catalogue = open_catalogue(data_dir)
    logging.getLogger("pixserve").setLevel(logging.ERROR)  # new collections are no news
    with steps() as progress:
        done = make_current(bundle, settings, catalogue, progress)
    if done.how == "queued":
        typer.echo(
            f"{done.bundle} is current; {done.videos} videos are analysed again from the next "
            f"pixserve up on"
        )
    else:
        typer.echo(
            f"{done.bundle} is current, with {done.videos} videos; start the stack anew: pixserve "
            "down, pixserve up"
        )


@train.command()
def keep(
    bundle: Annotated[str, typer.Argument(help="The candidate, e.g. mini-2.")],
    data_dir: DataDir = HERE,
) -> None:
    """Keep the current bundle and remove a candidate."""
    with needs_training_packages():
        from training.tuning.candidates import keep_current

    settings, catalogue = open_catalogue(data_dir)
    kept = keep_current(bundle, settings.models_dir, catalogue)
    typer.echo(f"{kept} stays current; {bundle} is removed")


@train.command()
def strategies(
    pairs: Annotated[
        Path | None, typer.Option(help="Lines of query and segment, as JSON; else made-up ones.")
    ] = None,
    data_dir: DataDir = HERE,
    segments: Annotated[int, typer.Option(min=100, help="Made-up ones to train on.")] = 2_000,
    held_out: Annotated[int, typer.Option(min=10, help="Made-up ones to judge by.")] = 1_000,
    epochs: Epochs = None,
    batch: Batch = None,
    learning_rate: Rate = None,
    seed: TrainSeed = None,
    out: Out = None,
) -> None:
    """Train every fusion strategy on the same tokens and compare them on what was held out.

    Without --pairs: on the made-up corpus, over the trained encoders of mini; no stack is needed.
    """
    with needs_training_packages():
        from training.tuning.contest import contest_on_pairs
        from training.tuning.corpus_contest import contest_on_corpus
        from training.tuning.fit import FitSettings

    wanted = _wanted(FitSettings(), epochs, batch, learning_rate, None, seed)
    with epochs_shown() as progress:
        if pairs is None:
            contest = contest_on_corpus(segments, held_out, wanted, progress)
        else:
            settings, catalogue = open_catalogue(data_dir)
            bundle = _current(settings, catalogue)
            contest = contest_on_pairs(pairs, bundle, catalogue, settings, wanted, progress)
    from training.evaluation.tables import contest_table

    show(contest_table(contest))
    write_report(out, contest)


@train.command()
def cost(
    repeats: Annotated[int, typer.Option(min=5, help="Forwards of each that are timed.")] = 50,
    segments: Annotated[int, typer.Option(min=1, help="In one forward.")] = 8,
    out: Out = None,
) -> None:
    """Time a forward of cross-attention beside full self-attention, at production size."""
    with needs_training_packages():
        from loadtest.bench_fusion import bench_fusion, cost_table

    report = bench_fusion(repeats, segments)
    show(cost_table(report))
    write_report(out, report)


# ---- what they share ----------------------------------------------------------------------------


def _current(settings: "Settings", catalogue: "Catalogue") -> "Bundle":
    from training.tuning.candidates import find_bundle

    named = catalogue.versions.current()
    if named is None:
        raise ConfigurationError("no bundle is current yet: start the stack once with pixserve up")
    return find_bundle(settings.models_dir, named)


def _wanted(
    default: "FitSettings",
    epochs: int | None,
    batch: int | None,
    learning_rate: float | None,
    patience: int | None,
    seed: int | None,
) -> "FitSettings":
    import msgspec

    from training.tuning.fit import FitSettings

    given = {"epochs": epochs, "batch": batch, "learning_rate": learning_rate,
             "patience": patience, "seed": seed}  # fmt: skip
    changed = {name: value for name, value in given.items() if value is not None}
    try:
        return msgspec.convert(msgspec.structs.asdict(default) | changed, FitSettings)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"the training cannot be so: {error}") from error


def _tell(run: "Run", folder: Path) -> None:
    from training.evaluation.tables import measures_table

    title = f"{run.kind} of {run.trained_from}: {run.held_out} of {run.pairs} pairs were held out"
    show(measures_table(run.measures, title))
    _verdict("trained", "current", run.against_current)
    typer.echo(
        f"best epoch {run.fitted.best_epoch} of {len(run.fitted.epochs)}; go on with: pixserve "
        f"train export {folder}"
    )


def _verdict(new: str, old: str, comparison: "Comparison") -> None:
    from training.evaluation.tables import interval_text

    verdict = "is better" if comparison.is_better else "is not surely better"
    gap = interval_text(comparison.difference, sign=True)
    typer.echo(f"{new} {verdict} than {old}: nDCG@10 {gap}")

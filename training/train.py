"""Trains the mini family: `python -m training.train --seed 1 --out DIR`, or `make train`.

Interrupt it whenever you like: the same command goes on from the last checkpoint in DIR.
"""

from dataclasses import asdict
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Annotated

import msgspec
import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from torch import Tensor

from ensembles.build import MINI
from export.modules import ClipText, ClipVision, Sound
from gateway.errors import ConfigurationError
from training.ahead import Ahead
from training.bank import Bank, SentenceEncoder, training_bank
from training.batches import PictureBatch, SoundBatch, picture_batch, sound_batch
from training.curves import loss_curves
from training.fusing import Fusing, FusionBatch, fusion_batch
from training.parts import Workers
from training.recall import Figures, held_out_figures
from training.recipe import FULL, Recipe
from training.towers import Towers
from training.trained import Report, load_clip, load_fusion, load_sound, save_report, save_trained
from training.tuning.loop import Progress, Stage, Step, run
from training.world.spoken import mini_sentences

CURVES = "curves.svg"
CHECKPOINTS = "checkpoints"
EVALUATED = 1000  # held-out segments at the end

SIZE_PX = MINI.image_size_px


def train(
    seed: int,
    out: Path,
    recipe: Recipe,
    sentences: SentenceEncoder,
    progress: Progress,
    evaluated: int = EVALUATED,
) -> Report:
    """Train the mini family with one seed.

    Args:
        seed: of everything that is random: data, order and first weights.
        out: for the weights, the tokenizer, the curves, the report and the checkpoints.
        recipe: sizes and rates.
        sentences: encoder of transcripts.
        progress: told of each step.
        evaluated: held-out segments that the report is about.

    Raises:
        ConfigurationError: a loss is no number, or a checkpoint is of another run.
    """
    began = perf_counter()
    torch.set_num_threads(1)  # a worker: there are two
    kept = out / CHECKPOINTS
    kept.mkdir(parents=True, exist_ok=True)
    towers = Towers(MINI, seed).train().to(device())
    tower_losses = run(_tower_stage(towers, seed, recipe), kept, progress)
    fusing = Fusing(towers, MINI, seed).to(device())
    fusion_losses = run(_fusion_stage(fusing, sentences, seed, recipe), kept, progress)
    report = Report(
        seed=seed,
        command=f"python -m training.train --seed {seed}",
        minutes=round((perf_counter() - began) / 60, 1),
        recipe=asdict(recipe),
        figures={},
    )
    save_trained(out, towers.clip, towers.sound_encoder, fusing.fusion, report)
    figures = trained_figures(out, sentences, evaluated)  # of the files, so of fp16
    report = msgspec.structs.replace(report, figures=figures)
    save_report(out, report)
    losses = {"towers": tower_losses, "fusion": fusion_losses}
    (out / CURVES).write_text(loss_curves(losses))
    return report


def trained_figures(folder: Path, sentences: SentenceEncoder, segments: int) -> Figures:
    """Return what the weights in a folder find, as they are there, in fp16."""
    clip = load_clip(MINI, folder)
    return held_out_figures(
        ClipText(clip).eval(),
        ClipVision(clip).eval(),
        Sound(load_sound(MINI, folder)).eval(),
        load_fusion(MINI, folder),
        sentences,
        SIZE_PX,
        segments,
    )


def device() -> str:
    """Return where to train: a GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _tower_stage(towers: Towers, seed: int, recipe: Recipe) -> Stage:
    workers = Workers(device())
    patch_px = towers.clip.config.vision_config.patch_size

    def batch(step: int) -> tuple[PictureBatch, SoundBatch]:
        pictures = picture_batch(seed, step, recipe.pictures, SIZE_PX, patch_px)
        return pictures, sound_batch(seed, step, recipe.sounds)

    ahead = Ahead(batch, recipe.tower_steps)

    def backward(step: int) -> Tensor:
        return towers.backward(*ahead(step), workers)

    return Stage("towers", towers, backward, recipe.tower_steps, recipe.tower_rate)


def _fusion_stage(fusing: Fusing, sentences: SentenceEncoder, seed: int, recipe: Recipe) -> Stage:
    workers = Workers(device())

    @cache
    def bank() -> Bank:
        encoders = (fusing.towers.vision, fusing.towers.sound)
        counts = (recipe.segments, recipe.frames, recipe.windows)
        return training_bank(encoders, sentences, seed, *counts, SIZE_PX, workers)

    def batch(step: int) -> FusionBatch:
        return fusion_batch(bank(), seed, step, recipe.fusion_batch)

    ahead = Ahead(batch, recipe.fusion_steps)

    def backward(step: int) -> Tensor:
        return fusing.backward(ahead(step), workers)

    return Stage("fusion", fusing, backward, recipe.fusion_steps, recipe.fusion_rate)


def main(
    out: Annotated[Path, typer.Option(help="Folder for weights, curves and checkpoints.")],
    seed: Annotated[int, typer.Option(help="Of data, order and first weights.")] = 1,
) -> None:
    """Train the mini family; run it again to go on after an interruption."""
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn())
    try:
        with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            tasks: dict[str, TaskID] = {}

            def told(step: Step) -> None:
                if step.stage not in tasks:
                    tasks[step.stage] = bar.add_task(step.stage, total=step.steps)
                text = f"{step.stage}: loss {step.loss:.3f}"
                bar.update(tasks[step.stage], completed=step.number, description=text)

            report = train(seed, out, FULL, mini_sentences(), told)
    except ConfigurationError as error:
        Console(stderr=True).print(str(error), style="red", highlight=False)
        raise typer.Exit(1) from error
    Console().print(figures_table(report))


def figures_table(report: Report) -> Table:
    """Return what was found on the held-out set, leg by leg."""
    table = Table(title=f"{EVALUATED} held-out segments, seed {report.seed}")
    names = ("recall@1", "recall@5", "recall@10", "mrr", "ndcg@10", "queries")
    for name in ("leg, kind of query", *names):
        table.add_column(name)
    for row, found in report.figures.items():
        table.add_row(row, *(f"{found[name]:g}" for name in names))
    return table


if __name__ == "__main__":
    typer.run(main)

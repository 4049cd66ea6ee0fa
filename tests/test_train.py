"""Training: resumable, stops where the loss is no number, and keeps what it says it keeps."""

import hashlib
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ensembles.build import MINI
from export.profile_rows import OWN_FILES, TOKENIZER
from gateway.errors import ConfigurationError
from training.ahead import Ahead
from training.augment import augment
from training.batches import frame_attributes, halves, sound_batch
from training.curves import loss_curves
from training.parts import Workers, backward_in_parts
from training.patches import NOTHING, patch_labels
from training.recall import metrics, ranks
from training.recipe import TINY
from training.towers import contrast
from training.train import CHECKPOINTS, CURVES, figures_table, train
from training.trained import REPORT, Report, load_clip, load_fusion, load_sound
from training.tuning.loop import CHECKPOINT_STEPS, Stage, Step, rate_share, run
from training.world.scenes import SHAPES, TEXTURES, Figure, Look, Segment

Interrupted = KeyboardInterrupt


def sentences(texts) -> torch.Tensor:
    """A sentence encoder that needs no weights: each text is a direction of its own."""
    rows = []
    for text in texts:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        rows.append(torch.randn(MINI.sentence, generator=torch.Generator().manual_seed(seed)))
    return nn.functional.normalize(torch.stack(rows), dim=-1)


def silent(_step: Step) -> None:
    pass


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Report]:
    folder = tmp_path_factory.mktemp("trained")
    return folder, train(1, folder, TINY, sentences, silent, evaluated=20)


def weights(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in OWN_FILES.values()}


def test_a_run_leaves_weights_tokenizer_curves_and_report(trained):
    folder, report = trained
    for name in (*OWN_FILES.values(), TOKENIZER, CURVES, REPORT):
        assert (folder / name).stat().st_size > 0
    assert msgspec.json.decode((folder / REPORT).read_bytes(), type=Report) == report
    assert report.command == "python -m training.train --seed 1"
    assert {"visual object", "sound sound", "fused mixed"} <= set(report.figures)
    assert figures_table(report).row_count == len(report.figures)
    assert load_file(folder / OWN_FILES["clip"])["logit_scale"].dtype == torch.float16


@pytest.mark.parametrize(("stage", "number"), [("towers", 3), ("fusion", 2)])
def test_an_interrupted_run_ends_with_the_same_weights(
    trained, tmp_path, monkeypatch, stage, number
):
    monkeypatch.setattr("training.tuning.loop.CHECKPOINT_STEPS", 1)

    def interrupt(step: Step) -> None:
        if (step.stage, step.number) == (stage, number):
            raise Interrupted

    with pytest.raises(Interrupted):
        train(1, tmp_path, TINY, sentences, interrupt, evaluated=20)
    assert not (tmp_path / REPORT).exists()
    seen: list[Step] = []
    train(1, tmp_path, TINY, sentences, seen.append, evaluated=20)
    assert (seen[0].stage, seen[0].number) == (stage, number + 1)
    assert weights(tmp_path) == weights(trained[0])


def test_another_seed_gives_other_weights(trained, tmp_path):
    train(2, tmp_path, TINY, sentences, silent, evaluated=20)
    assert weights(tmp_path) != weights(trained[0])


def test_the_checkpoint_of_a_longer_run_is_refused(trained, tmp_path):
    (tmp_path / CHECKPOINTS).mkdir()
    (tmp_path / CHECKPOINTS / "towers.pt").write_bytes(
        (trained[0] / CHECKPOINTS / "towers.pt").read_bytes()
    )
    recipe = replace(TINY, tower_steps=9)
    with pytest.raises(ConfigurationError, match=r"towers\.pt is of a run of 4 steps.*has 9"):
        train(1, tmp_path, recipe, sentences, silent)


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([[2.0]]))


def line_stage(fails_at: int, steps: int) -> Stage:
    line = Line()

    def backward(step: int) -> torch.Tensor:
        loss = (line.slope**2).sum() * (float("nan") if step == fails_at else 1.0)
        loss.backward()
        return loss.detach()

    return Stage("line", line, backward, steps, 1e-3)


def test_a_loss_that_is_no_number_stops_at_its_step_and_keeps_the_last_good_checkpoint(tmp_path):
    steps = CHECKPOINT_STEPS + 10
    stage = line_stage(CHECKPOINT_STEPS + 4, steps)
    with pytest.raises(ConfigurationError) as stopped:
        run(stage, tmp_path, silent)
    message = str(stopped.value)
    assert f"stopped at step {CHECKPOINT_STEPS + 5} of {steps}: the loss is nan" in message
    assert f"{tmp_path / 'line.pt'} holds the last good checkpoint" in message
    kept = torch.load(tmp_path / "line.pt", weights_only=True)
    assert len(kept["losses"]) == CHECKPOINT_STEPS
    assert torch.isfinite(kept["module"]["slope"]).all()


def test_a_loss_that_is_no_number_at_once_says_that_nothing_was_kept(tmp_path):
    with pytest.raises(ConfigurationError, match=r"step 1 of 5.*none was kept yet"):
        run(line_stage(0, 5), tmp_path, silent)
    assert list(tmp_path.iterdir()) == []


def test_the_learning_rate_rises_then_falls():
    shares = [rate_share(number, 1000) for number in range(1000)]
    highest = shares.index(max(shares))
    assert 20 < highest < 100
    assert shares[0] < 0.05
    assert 0.01 < shares[-1] < 0.05
    assert shares[highest:] == sorted(shares[highest:], reverse=True)


def test_gradients_in_parts_are_those_of_the_whole():
    torch.manual_seed(0)
    encoder, rows = nn.Linear(6, 4), torch.randn(8, 6)
    scale = nn.Parameter(torch.tensor(3.0))

    def loss(found) -> torch.Tensor:
        return contrast(found[0], found[0].flip(0), torch.eye(8), scale)

    loss([encoder(rows)]).backward()
    whole = [encoder.weight.grad.clone(), encoder.bias.grad.clone(), scale.grad.clone()]
    scale.grad = None
    workers = Workers("cpu", exact=True)
    backward_in_parts(
        list(encoder.parameters()), lambda part: (encoder(part),), rows.chunk(2), loss, workers
    )
    parts = [encoder.weight.grad, encoder.bias.grad, scale.grad]
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_the_contrast_counts_every_thing_that_a_text_fits():
    texts, things = torch.eye(3), torch.eye(3)[[0, 0, 2]]
    scale = torch.tensor(20.0)
    both = torch.tensor([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]])
    texts_both = texts[[0, 0, 2]]
    assert contrast(texts_both, things, both, scale) < contrast(texts, things, both, scale)
    assert contrast(texts_both, things, both, scale) == pytest.approx(0.693 * 2 / 3, abs=0.01)


def test_a_text_that_fits_nothing_is_pushed_away_from_everything():
    things, scale = torch.eye(3)[:2], torch.tensor(10.0)
    fits = torch.tensor([[1.0, 0], [0, 1], [0, 0]])
    near = contrast(torch.eye(3)[[0, 1, 0]], things, fits, scale)
    far = contrast(torch.eye(3), things, fits, scale)
    assert far < near


def test_metrics_are_those_of_one_right_answer():
    found = metrics([1, 2, 11, 4])
    assert found["recall@1"] == 0.25
    assert found["recall@10"] == 0.75
    assert found["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 11 + 1 / 4) / 4, abs=1e-4)
    assert found["ndcg@10"] == pytest.approx((1 + 0.6309 + 0.4307) / 4, abs=1e-4)


def test_of_equal_scores_the_right_one_counts_as_the_last_and_what_is_absent_as_never_found():
    things = torch.stack([torch.eye(2)[0], torch.eye(2)[0], torch.zeros(2)])
    assert ranks(torch.eye(2)[:1], things, [0]) == [2]
    assert ranks(torch.eye(2)[:1], things, [2]) == [3]


def test_the_curves_are_a_picture_with_both_stages():
    picture = ElementTree.fromstring(loss_curves({"towers": [9.0, 5.0, 4.0], "fusion": [6.0, 3.0]}))
    texts = [element.text or "" for element in picture.iter() if element.tag.endswith("text")]
    assert any(text.startswith("towers: 3 steps, loss 9.00") for text in texts)
    assert any(text.startswith("fusion: 2 steps") for text in texts)


@pytest.mark.parametrize(
    ("name", "load"), [("clip", load_clip), ("audio", load_sound), ("fusion", load_fusion)]
)
def test_weights_that_are_missing_broken_or_of_another_size_are_refused(
    trained, tmp_path, name, load
):
    load(MINI, trained[0])
    path = tmp_path / OWN_FILES[name]
    with pytest.raises(ConfigurationError, match=f"{OWN_FILES[name]} cannot be read.*make train"):
        load(MINI, tmp_path)
    path.write_bytes(b"no weights at all")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(MINI, tmp_path)
    found = load_file(trained[0] / OWN_FILES[name])
    first = next(iter(found))
    save_file({first: torch.zeros(3)}, path)
    with pytest.raises(ConfigurationError, match="other weights than this version"):
        load(MINI, tmp_path)


def test_batches_come_one_ahead_and_any_can_be_asked_for():
    made: list[int] = []

    def make(step: int) -> int:
        made.append(step)
        return 10 * step

    batches = Ahead(make, steps=4)
    assert [batches(step) for step in (2, 3)] == [20, 30]
    assert made == [2, 3]
    assert batches(0) == 0


def test_patches_say_what_covers_them():
    figure = Figure("star", "red", "large", "one", "dotted", "left", "middle")
    look = Look(figure, None, "plain", "blue", "clear", "day", "still", "static", seed=1)
    (labels,) = patch_labels([look], [0.0], 8)
    grid = labels.reshape(8, 8, 2)
    assert grid[4, 2].tolist() == [1 + SHAPES.index("star"), 1 + TEXTURES.index("dotted")]
    assert grid[:, 6:].tolist() == [[[NOTHING] * 2] * 2] * 8
    empty = replace(look, figure=None)
    assert not patch_labels([empty], [0.0], 8).any()


def test_a_frame_has_a_place_where_its_figure_moves_but_no_motion():
    figure = Figure("star", "red", "small", "one", "plain", "middle", "middle")
    look = Look(figure, None, "plain", "blue", "clear", "day", "left", "static", seed=1)
    first, last = (frame_attributes(Segment(look, None, None), t) for t in (0.0, 5.0))
    assert (first["across"], last["across"]) == ("right", "left")
    assert "motion" not in first


def test_augmented_pixels_differ_a_little_and_the_same_way_every_time():
    pixels = torch.full((2, 3, 16, 16), 120, dtype=torch.uint8)
    once, again, other = (augment(pixels, 1, step) for step in (3, 3, 4))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert (once.float() - 120).abs().max() < 40


def test_halves_hold_every_row_once():
    batch = sound_batch(1, 0, 6)
    first, second = halves(batch)
    assert torch.equal(torch.cat([first.texts, second.texts]), batch.texts)
    assert len(first.sounds) == len(second.sounds) == 3

import numpy as np
import pytest
import torch

from tests.examples import DIMS, halves, heard_examples
from training.evaluation.bootstrap import ndcg_at
from training.tuning.fit import FitSettings, fit
from training.tuning.scorer import FusionTask, Scorer, pair_ranks
from training.tuning.strategies import STRATEGIES, LateFusion, VisualOnly

FUSIONS = [name for name in STRATEGIES if name != "late-fusion"]
TRAINED = [name for name in STRATEGIES if name != "visual-only"]
SETTINGS = FitSettings(epochs=40, batch=30, learning_rate=1e-2, patience=40)


def tokens(seed: int = 1, segments: int = 3) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    given = []
    for count, width in ((4, DIMS.vision), (3, DIMS.audio), (2, DIMS.sentence)):
        given.append(torch.randn(segments, count, width, generator=rng))
        given.append(torch.rand(segments, count, generator=rng) + 0.1)
    return given


def opened(name: str) -> torch.nn.Module:
    """A strategy whose gate lets the attention through."""
    module = STRATEGIES[name](DIMS, 1)
    for key, weight in module.named_parameters():
        if key.endswith("gate"):
            torch.nn.init.constant_(weight, 0.7)
    return module


@pytest.mark.parametrize("name", FUSIONS)
def test_a_strategy_returns_unit_rows(name: str) -> None:
    fused = opened(name)(*tokens())
    assert fused.shape == (3, DIMS.fused)
    assert fused.norm(dim=1).tolist() == pytest.approx([1, 1, 1], abs=1e-5)


@pytest.mark.parametrize("name", ["concat-mlp", "self-attention", "cross-attention"])
def test_what_has_a_gate_begins_as_the_mean_frame(name: str) -> None:
    given = tokens()
    assert torch.allclose(STRATEGIES[name](DIMS, 1)(*given), VisualOnly()(*given), atol=1e-6)


@pytest.mark.parametrize("name", FUSIONS)
def test_padding_changes_nothing(name: str) -> None:
    given = tokens()
    padded = []
    for rows, weights in zip(given[::2], given[1::2], strict=True):
        padded.append(torch.cat([rows, 9 * torch.ones_like(rows)], dim=1))
        padded.append(torch.cat([weights, torch.zeros_like(weights)], dim=1))
    module = opened(name)
    assert torch.allclose(module(*given), module(*padded), atol=1e-5)


@pytest.mark.parametrize("name", FUSIONS)
def test_scaling_all_weights_changes_nothing(name: str) -> None:
    given = tokens()
    doubled = [2 * array if array.ndim == 2 else array for array in given]
    module = opened(name)
    assert torch.allclose(module(*given), module(*doubled), atol=1e-5)


@pytest.mark.parametrize("name", [name for name in FUSIONS if name != "visual-only"])
def test_a_heavier_modality_moves_the_embedding(name: str) -> None:
    given = tokens()
    heavier = [4 * array if at == 3 else array for at, array in enumerate(given)]  # the sound's
    module = opened(name)
    assert not torch.allclose(module(*given), module(*heavier), atol=1e-3)


@pytest.mark.parametrize("name", FUSIONS)
def test_missing_modalities_leave_finite_embeddings(name: str) -> None:
    given = tokens()
    given[3].zero_()
    given[5].zero_()
    assert torch.isfinite(opened(name)(*given)).all()
    given[1].zero_()  # not even frames
    assert torch.isfinite(opened(name)(*given)).all()


def test_late_fusion_weighs_only_what_is_there() -> None:
    scores = torch.tensor([[[0.2, 0.9, 0.5], [0.2, 0.9, 0.5], [0.2, 0.9, 0.5]]])
    strength = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    fused = LateFusion()(scores, strength)
    assert fused[0, 1].item() == pytest.approx(0.2)
    assert 0.2 < fused[0, 0].item() < 0.9
    assert fused[0, 2].item() == 0


@pytest.mark.parametrize("name", TRAINED)
def test_training_finds_by_sound_what_frames_do_not_tell(name: str, tmp_path) -> None:
    examples = heard_examples(turned=name != "late-fusion")  # which has no projection to learn
    train, held_out = halves(examples)
    scorer = Scorer(STRATEGIES[name](DIMS, 1))
    blind = ndcg_at(pair_ranks(Scorer(VisualOnly()), examples, held_out)).mean()
    task = FusionTask(scorer, examples, train, held_out)
    fit(task, SETTINGS, tmp_path / "checkpoint.pt", lambda *_: None)
    assert ndcg_at(pair_ranks(scorer, examples, held_out)).mean() > blind + 0.1


def test_a_model_that_says_the_same_of_everything_finds_nothing() -> None:
    examples = heard_examples(20)

    class Constant(torch.nn.Module):
        def forward(self, frames: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(frames), DIMS.fused)

    assert pair_ranks(Scorer(Constant()), examples, examples.pairs) == [20] * 20


def test_late_fusion_does_without_a_space_that_words_and_sounds_share() -> None:
    given = tokens()
    given[2] = torch.randn(3, 3, DIMS.audio + 1)
    scores = Scorer(STRATEGIES["late-fusion"](DIMS, 1))(
        torch.randn(5, DIMS.vision), torch.randn(5, DIMS.sentence), given
    )
    assert scores.shape == (5, 3)
    assert np.isfinite(scores.detach().numpy()).all()

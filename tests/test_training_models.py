"""The mini models: what fusion promises, the tokenizer, and the weights in the package."""

from pathlib import Path

import msgspec
import onnxruntime as ort
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ensembles.build import MINI
from ensembles.contracts import models
from export.onnx import export_onnx
from export.profile_rows import OWN_FILES, OWN_WEIGHTS
from export.weights import check_finite
from training.corpus import training_batch
from training.models import Fusion, frame_changes, fusion, mini_clip, sliding_means
from training.trained import REPORT, Report, load_clip, load_fusion, load_sound
from training.tuning.tokens import END, START, mini_tokenizer, train_tokenizer
from training.world.captions import KINDS, captions

LIMIT_BYTES = 12_000_000
WIDTHS = (MINI.vision, MINI.audio, MINI.sentence)


def opened(seed: int = 5) -> Fusion:
    """A network with its gate open, so that attention counts."""
    network = fusion(MINI, seed)
    torch.nn.init.constant_(network.gate, 0.7)
    return network


def inputs(lengths=(5, 3, 2), rows: int = 4, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = []
    for width, length in zip(WIDTHS, lengths, strict=True):
        tokens = torch.randn(rows, length, width, generator=generator)
        found += [functional.normalize(tokens, dim=-1)]
        found += [torch.rand(rows, length, generator=generator) + 0.1]
    return found


def without(given: list[Tensor], modality: int) -> list[Tensor]:
    changed = [tensor.clone() for tensor in given]
    changed[2 * modality + 1].zero_()
    return changed


def run(network: Fusion, given: list[Tensor]) -> Tensor:
    with torch.no_grad():
        result: Tensor = network(*given)
    return result


def test_an_untrained_network_is_exactly_the_mean_of_the_frames_that_are_there():
    given = inputs()
    given[1][:, 2] = 0
    kept = given[0][:, [0, 1, 3, 4]].mean(dim=1)
    expected = functional.normalize(kept, dim=-1)
    assert torch.allclose(run(fusion(MINI, 1), given), expected, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-6, 0.5, 2.0, 1e6])
def test_scaling_all_shares_changes_no_vector(factor):
    given = inputs()
    scaled = [value * factor if index % 2 else value for index, value in enumerate(given)]
    assert torch.allclose(run(opened(), given), run(opened(), scaled), atol=1e-5)


@pytest.mark.parametrize("modality", [0, 1, 2])
def test_a_larger_share_for_one_token_counts(modality):
    given, other = inputs(), inputs()
    other[2 * modality + 1][:, 0] *= 20
    assert not torch.allclose(run(opened(), given), run(opened(), other), atol=1e-3)


@pytest.mark.parametrize("modality", [0, 1, 2])
def test_what_is_padding_does_not_count_whatever_is_in_it(modality):
    given, padded = inputs(), inputs()
    tokens, weights = padded[2 * modality], padded[2 * modality + 1]
    padded[2 * modality] = torch.cat([tokens, 9 * torch.ones_like(tokens)], dim=1)
    padded[2 * modality + 1] = torch.cat([weights, torch.zeros_like(weights)], dim=1)
    assert torch.allclose(run(opened(), given), run(opened(), padded), atol=1e-5)


@pytest.mark.parametrize("modality", [1, 2])
def test_a_missing_modality_is_masked(modality):
    given = without(inputs(), modality)
    other = [tensor.clone() for tensor in given]
    other[2 * modality] = torch.randn_like(other[2 * modality])
    assert torch.equal(run(opened(), given), run(opened(), other))
    assert not torch.allclose(run(opened(), given), run(opened(), inputs()), atol=1e-3)


def test_without_any_token_nothing_is_attended_to():
    empty = [t * (index % 2 == 0) for index, t in enumerate(inputs())]
    assert torch.isfinite(run(opened(), empty)).all()
    assert torch.equal(run(fusion(MINI, 1), empty), torch.zeros(4, MINI.fused))


def test_the_order_of_frames_counts_when_the_gate_is_open():
    given, turned = inputs(), inputs()
    turned[0], turned[1] = given[0].flip(1), given[1].flip(1)
    assert not torch.allclose(run(opened(), given), run(opened(), turned), atol=1e-3)
    shut = fusion(MINI, 5)
    assert torch.allclose(run(shut, given), run(shut, turned), atol=1e-6)


def test_a_change_weighs_what_both_its_frames_weigh_and_nothing_where_one_is_missing():
    frames = torch.tensor([[[1.0], [3.0], [6.0], [0.0]]])
    changes, weights = frame_changes(frames, torch.tensor([[1.0, 3.0, 1.0, 0.0]]))
    assert changes[0, :3, 0].tolist() == [0.0, 2.0, 3.0]
    assert weights.tolist() == [[0.0, 2.0, 2.0, 0.0]]


def test_a_sliding_mean_is_over_the_neighbours_that_are_there():
    frames = torch.tensor([[[1.0], [3.0], [8.0], [0.0]]])
    present = torch.tensor([[[1.0], [1.0], [1.0], [0.0]]])
    assert sliding_means(frames, present)[0, :3, 0].tolist() == [2.0, 4.0, 5.5]


def test_the_exported_network_takes_any_number_of_tokens_and_segments(tmp_path):
    contract = models(MINI)["fusion"]
    network = opened()
    export_onnx(network, contract, tmp_path / "model.onnx")
    session = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for lengths, rows in (((1, 1, 1), 1), ((12, 1, 1), 3), ((7, 4, 2), 5)):
        given = inputs(lengths, rows)
        feed = {t.name: g.numpy() for t, g in zip(contract.inputs, given, strict=True)}
        (found,) = session.run(None, feed)
        assert found == pytest.approx(run(network, given).numpy(), abs=1e-5)


def test_any_text_can_be_encoded_and_read_back():
    tokenizer = mini_tokenizer()
    for text in ("a red circle", "Übergrößenträger, 漢字 \N{SNOWMAN}!", "", "x" * 300):
        encoded = tokenizer.encode(text)
        assert encoded.tokens[0] == START
        assert encoded.tokens[-1] == END
        assert tokenizer.decode(encoded.ids).strip() == text.lower()


def test_captions_fit_the_text_tower():
    from random import Random

    rng, tokenizer = Random(1), mini_tokenizer()
    lengths = [
        len(tokenizer.encode(captions(segment, kind, rng)).ids)
        for segment in training_batch(9, 0, 200)
        for kind in KINDS
    ]
    assert max(lengths) <= MINI.clip_tokens


def test_the_tokenizer_in_the_package_is_what_its_training_gives():
    assert train_tokenizer().to_str() == mini_tokenizer().to_str()


def test_the_end_of_a_text_is_found_whatever_pads_it():
    clip = mini_clip(MINI, seed=1)
    config = clip.config.text_config
    assert config.eos_token_id == mini_tokenizer().token_to_id(END)
    assert config.eos_token_id != 2  # which transformers reads as "the highest id"
    assert config.vocab_size == mini_tokenizer().get_vocab_size()


def test_the_weights_in_the_package_are_small_finite_and_fit():
    files = [*(OWN_WEIGHTS / name for name in OWN_FILES.values()), OWN_WEIGHTS / "tokenizer.json"]
    assert sum(path.stat().st_size for path in files) <= LIMIT_BYTES
    for name, module in (
        ("clip", load_clip(MINI)),
        ("audio", load_sound(MINI)),
        ("fusion", load_fusion(MINI)),
    ):
        check_finite(name, module)
    given = inputs()
    mean = functional.normalize(given[0].mean(dim=1), dim=-1)
    assert (run(load_fusion(MINI), given) * mean).sum(dim=1).max() < 0.9


def test_the_weights_say_how_they_came_about_and_meet_the_targets():
    report = msgspec.json.decode(Path(OWN_WEIGHTS / REPORT).read_bytes(), type=Report)
    assert report.command == f"python -m training.train --seed {report.seed}"
    found = report.figures
    assert min(found[f"visual {kind}"]["queries"] for kind in ("object", "colour")) > 500
    assert min(found[f"visual {kind}"]["recall@1"] for kind in ("object", "colour")) >= 0.60
    assert min(found[f"visual {kind}"]["recall@10"] for kind in ("object", "colour")) >= 0.92
    assert found["sound sound"]["recall@10"] >= 0.85
    assert found["fused mixed"]["ndcg@10"] >= 1.23 * found["visual mixed"]["ndcg@10"]

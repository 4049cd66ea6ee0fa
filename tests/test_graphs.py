"""The ensembles fit the models that they are made of."""

import msgspec
import pytest

from ensembles.build import MINI
from ensembles.contracts import Tensor, bucket, models
from ensembles.graphs import Ensemble, ensembles

DIMS = {
    "mini": MINI,
    "all": msgspec.structs.replace(  # with a text encoder for sounds, and a fixed text length
        MINI, sound_text_tokens=77, clip_padding="fixed", fit="squash"
    ),
}
MODELS = {name: models(dims) for name, dims in DIMS.items()}
GRAPHS = {name: ensembles(MODELS[name], dims) for name, dims in DIMS.items()}
CASES = [(dims, graph) for dims, graphs in GRAPHS.items() for graph in sorted(graphs)]

ENSEMBLES = {
    "embed_query",
    "embed_text",
    "embed_clip_text",
    "embed_frames",
    "embed_images",
    "embed_audio",
    "embed_video",
    "fuse",
}


def full_shape(tensor: Tensor, max_batch: int) -> tuple[int, ...]:
    return (-1, *tensor.shape) if max_batch else tensor.shape


def tensors_of(graph: Ensemble, dims: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Every tensor of an ensemble with its dtype and full shape, as its producer has it."""
    known = {
        t.name: (t.dtype, full_shape(t, graph.contract.max_batch)) for t in graph.contract.inputs
    }
    for step in graph.steps:
        model = MODELS[dims][step.model]
        for tensor in model.outputs:
            if tensor.name in step.outputs:
                name = step.outputs[tensor.name]
                known[name] = (tensor.dtype, full_shape(tensor, model.max_batch))
    return known


def test_the_ensembles_of_the_design_are_there():
    assert set(GRAPHS["mini"]) == ENSEMBLES
    assert set(GRAPHS["all"]) == ENSEMBLES | {"embed_sound_text"}


def test_a_query_has_the_vector_of_each_text_encoder_and_other_texts_one():
    outputs = {
        name: [tensor.name for tensor in graph.contract.outputs]
        for name, graph in GRAPHS["all"].items()
    }
    assert outputs["embed_query"] == [
        "CLIP_EMBEDDING",
        "SENTENCE_EMBEDDING",
        "SOUND_TEXT_EMBEDDING",
    ]
    assert outputs["embed_sound_text"] == ["SOUND_TEXT_EMBEDDING"]
    assert len(GRAPHS["mini"]["embed_query"].contract.outputs) == 2
    assert len(GRAPHS["mini"]["embed_query"].steps) == 3


def test_a_fixed_text_length_is_part_of_the_contract():
    of_tokens = {name: known["clip_text"].inputs[0].shape for name, known in MODELS.items()}
    assert of_tokens == {"mini": (-1,), "all": (MINI.clip_tokens,)}


@pytest.mark.parametrize(("dims", "name"), CASES)
def test_each_step_is_fed_what_its_contract_asks_for(dims, name):
    known = tensors_of(GRAPHS[dims][name], dims)
    for step in GRAPHS[dims][name].steps:
        model = MODELS[dims][step.model]
        assert set(step.inputs) == {tensor.name for tensor in model.inputs}, step.model
        for tensor in model.inputs:
            dtype, shape = known[step.inputs[tensor.name]]
            assert dtype == tensor.dtype, (step.model, tensor.name)
            assert shape == full_shape(tensor, model.max_batch), (step.model, tensor.name)


@pytest.mark.parametrize(("dims", "name"), CASES)
def test_each_output_of_an_ensemble_is_made_by_a_step(dims, name):
    contract = GRAPHS[dims][name].contract
    known = tensors_of(GRAPHS[dims][name], dims)
    for tensor in contract.outputs:
        assert known[tensor.name] == (tensor.dtype, full_shape(tensor, contract.max_batch))


@pytest.mark.parametrize(("dims", "name"), CASES)
def test_no_tensor_is_made_for_nothing(dims, name):
    graph = GRAPHS[dims][name]
    used = {outer for step in graph.steps for outer in step.inputs.values()}
    used |= {tensor.name for tensor in graph.contract.outputs}
    made = {outer for step in graph.steps for outer in step.outputs.values()}
    assert made <= used
    assert {tensor.name for tensor in graph.contract.inputs} <= used


@pytest.mark.parametrize(
    ("length", "limit", "expected"),
    [(1, 77, 8), (8, 77, 8), (9, 77, 16), (65, 77, 77), (77, 77, 77), (200, 256, 256)],
)
def test_token_ids_are_padded_to_the_next_bucket_or_the_limit(length, limit, expected):
    assert bucket(length, limit) == expected

"""The ensembles fit the models that they are made of."""

import pytest

from ensembles.build import MINI
from ensembles.contracts import Tensor, bucket, models
from ensembles.graphs import Ensemble, ensembles

MODELS = models(MINI)
GRAPHS = ensembles(MODELS, MINI)

ENSEMBLES = {
    "embed_query",
    "embed_text",
    "embed_clip_text",
    "embed_images",
    "embed_audio",
    "embed_video",
    "fuse",
}


def full_shape(tensor: Tensor, max_batch: int) -> tuple[int, ...]:
    return (-1, *tensor.shape) if max_batch else tensor.shape


def tensors_of(graph: Ensemble) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Every tensor of an ensemble with its dtype and full shape, as its producer has it."""
    known = {
        t.name: (t.dtype, full_shape(t, graph.contract.max_batch)) for t in graph.contract.inputs
    }
    for step in graph.steps:
        model = MODELS[step.model]
        for tensor in model.outputs:
            if tensor.name in step.outputs:
                name = step.outputs[tensor.name]
                known[name] = (tensor.dtype, full_shape(tensor, model.max_batch))
    return known


def test_the_ensembles_of_the_design_are_there():
    assert set(GRAPHS) == ENSEMBLES


@pytest.mark.parametrize("name", sorted(ENSEMBLES))
def test_each_step_is_fed_what_its_contract_asks_for(name):
    known = tensors_of(GRAPHS[name])
    for step in GRAPHS[name].steps:
        model = MODELS[step.model]
        assert set(step.inputs) == {tensor.name for tensor in model.inputs}, step.model
        for tensor in model.inputs:
            dtype, shape = known[step.inputs[tensor.name]]
            assert dtype == tensor.dtype, (step.model, tensor.name)
            assert shape == full_shape(tensor, model.max_batch), (step.model, tensor.name)


@pytest.mark.parametrize("name", sorted(ENSEMBLES))
def test_each_output_of_an_ensemble_is_made_by_a_step(name):
    contract = GRAPHS[name].contract
    known = tensors_of(GRAPHS[name])
    for tensor in contract.outputs:
        assert known[tensor.name] == (tensor.dtype, full_shape(tensor, contract.max_batch))


@pytest.mark.parametrize("name", sorted(ENSEMBLES))
def test_no_tensor_is_made_for_nothing(name):
    graph = GRAPHS[name]
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

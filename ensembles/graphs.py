"""The ensembles as data: what clients call, the steps inside, and the tensors between them."""

from collections.abc import Sequence

import msgspec

from ensembles.contracts import MAX_IMAGE_BATCH, MAX_TEXT_BATCH, Dimensions, Model, Tensor


class Step(msgspec.Struct, frozen=True):
    """One model of an ensemble; the maps go from the model's tensor names to the ensemble's."""

    model: str
    inputs: dict[str, str]
    outputs: dict[str, str]


class Ensemble(msgspec.Struct, frozen=True):
    """An ensemble: its contract and its steps."""

    contract: Model
    steps: tuple[Step, ...]


def step(model: str, inputs: str, outputs: str) -> Step:
    """Write a step from lists such as `"CLIP_IDS TEXT=TRANSCRIPTS"`: model tensor = ensemble's."""
    return Step(model, _tensor_map(inputs), _tensor_map(outputs))


def _tensor_map(words: str) -> dict[str, str]:
    pairs = (word.partition("=") for word in words.split())
    return {inner: outer or inner for inner, _, outer in pairs}


CLIP_TEXT = step("clip_text", "CLIP_IDS CLIP_MASK", "CLIP_EMBEDDING")
SENTENCE = step("sentence", "SENTENCE_IDS SENTENCE_MASK", "SENTENCE_EMBEDDING")
SOUND_TEXT = step("sound_text", "SOUND_TEXT_IDS SOUND_TEXT_MASK", "SOUND_TEXT_EMBEDDING")

SEGMENT_TOKENS = (
    "FRAME_TOKENS FRAME_TOKEN_WEIGHTS AUDIO_TOKENS AUDIO_TOKEN_WEIGHTS "
    "TEXT_TOKENS TEXT_TOKEN_WEIGHTS"
)

EMBED_VIDEO_STEPS = (
    step("decode_video", "CHUNK FRAME_INDICES", "PIXELS"),
    step("clip_vision", "PIXELS", "IMAGE_EMBEDDING=FRAME_EMBEDDINGS"),
    step("decode_audio", "CHUNK AUDIO_STARTS", "AUDIO"),
    step("wav2vec2", "AUDIO", "AUDIO_EMBEDDING=AUDIO_EMBEDDINGS"),
    step("tokenize", "TEXT=TRANSCRIPTS ROLE=ROLES", "SENTENCE_IDS SENTENCE_MASK"),
    step("sentence", "SENTENCE_IDS SENTENCE_MASK", "SENTENCE_EMBEDDING=TEXT_EMBEDDINGS"),
    step(
        "gather_segments",
        "FRAME_EMBEDDINGS FRAME_SEGMENTS FRAME_WEIGHTS AUDIO_EMBEDDINGS AUDIO_SEGMENTS "
        "AUDIO_WEIGHTS TEXT_EMBEDDINGS TEXT_WEIGHTS=TRANSCRIPT_WEIGHTS",
        SEGMENT_TOKENS,
    ),
    step("fusion", SEGMENT_TOKENS, "FUSED_EMBEDDING=FUSED_EMBEDDINGS"),
)


def ensembles(models: dict[str, Model], dims: Dimensions) -> dict[str, Ensemble]:
    """Return the ensembles, by name, over the models of a profile."""
    towers = [CLIP_TEXT, SENTENCE] + [SOUND_TEXT] * ("sound_text" in models)
    graphs = [
        _of_texts(models, "embed_query", towers, "Text to the embedding of each text encoder."),
        _of_texts(models, "embed_text", [SENTENCE], "Text to its sentence embedding."),
        _of_texts(models, "embed_clip_text", [CLIP_TEXT], "Text to its CLIP embedding."),
        _ensemble(
            "embed_images",
            MAX_IMAGE_BATCH,
            models["decode_images"].inputs,
            models["clip_vision"].outputs,
            (
                step("decode_images", "ENCODED", "PIXELS"),
                step("clip_vision", "PIXELS", "IMAGE_EMBEDDING"),
            ),
            "Encoded images to their CLIP embeddings.",
        ),
        _ensemble(
            "embed_frames",
            0,
            models["fit_frames"].inputs,
            (Tensor("FRAME_EMBEDDINGS", "FP32", (-1, dims.vision)),),
            (
                step("fit_frames", "FRAMES", "PIXELS"),
                step("clip_vision", "PIXELS", "IMAGE_EMBEDDING=FRAME_EMBEDDINGS"),
            ),
            "Frames that are decoded already to their CLIP embeddings.",
        ),
        _ensemble(
            "embed_audio",
            models["wav2vec2"].max_batch,
            models["wav2vec2"].inputs,
            models["wav2vec2"].outputs,
            (step("wav2vec2", "AUDIO", "AUDIO_EMBEDDING"),),
            "16 kHz mono sound to its embedding.",
        ),
        _ensemble(
            "embed_video",
            0,
            _embed_video_inputs(),
            (
                Tensor("FRAME_EMBEDDINGS", "FP32", (-1, dims.vision)),
                Tensor("AUDIO_EMBEDDINGS", "FP32", (-1, dims.audio)),
                Tensor("TEXT_EMBEDDINGS", "FP32", (-1, dims.sentence)),
                Tensor("FUSED_EMBEDDINGS", "FP32", (-1, dims.fused)),
            ),
            EMBED_VIDEO_STEPS,
            "A chunk of a video to its tokens and the fused embedding of each segment.",
        ),
        _ensemble(
            "fuse",
            models["fusion"].max_batch,
            models["fusion"].inputs,
            models["fusion"].outputs,
            (step("fusion", SEGMENT_TOKENS, "FUSED_EMBEDDING"),),
            "Stored tokens of segments to their fused embeddings.",
        ),
    ]
    if "sound_text" in models:
        graphs.append(
            _of_texts(
                models,
                "embed_sound_text",
                [SOUND_TEXT],
                "Text to its embedding in the space of the sounds.",
            )
        )
    return {graph.contract.name: graph for graph in graphs}


def _of_texts(
    models: dict[str, Model], name: str, towers: Sequence[Step], summary: str
) -> Ensemble:
    """Return the ensemble of some text encoders: the tokens of those alone, and their vectors."""
    tokenize = models["tokenize"]
    ids = " ".join(inner for tower in towers for inner in tower.inputs)
    vectors = [tensor for tower in towers for tensor in models[tower.model].outputs]
    steps = (step("tokenize", "TEXT ROLE", ids), *towers)
    return _ensemble(name, MAX_TEXT_BATCH, tokenize.inputs, tuple(vectors), steps, summary)


def _embed_video_inputs() -> tuple[Tensor, ...]:
    return (
        Tensor("CHUNK", "UINT8", (-1,)),
        Tensor("FRAME_INDICES", "INT32", (-1,)),
        Tensor("FRAME_SEGMENTS", "INT32", (-1,)),
        Tensor("FRAME_WEIGHTS", "FP32", (-1,)),
        Tensor("AUDIO_STARTS", "FP64", (-1,)),
        Tensor("AUDIO_SEGMENTS", "INT32", (-1,)),
        Tensor("AUDIO_WEIGHTS", "FP32", (-1,)),
        Tensor("TRANSCRIPTS", "BYTES", (-1, 1)),
        Tensor("ROLES", "BYTES", (-1, 1)),
        Tensor("TRANSCRIPT_WEIGHTS", "FP32", (-1,)),
    )


def _ensemble(
    name: str,
    max_batch: int,
    inputs: tuple[Tensor, ...],
    outputs: tuple[Tensor, ...],
    steps: tuple[Step, ...],
    summary: str,
) -> Ensemble:
    return Ensemble(Model(name, "ensemble", max_batch, inputs, outputs, summary), steps)

"""The contracts of the Triton models and ensembles: names, dtypes, shapes, limits.

The ground floor of the project: everything else imports this and this imports nothing of ours.
Shapes leave out the batch axis where `Model.max_batch` is over zero; `-1` is a variable axis.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

Dtype = Literal["BOOL", "UINT8", "INT32", "INT64", "FP32", "FP64", "BYTES"]
Runtime = Literal["python", "encoder", "ensemble"]

MAX_CHUNK_FRAMES = 64  # sampled frames in one chunk of a video
MAX_CHUNK_SEGMENTS = 64  # segments in one chunk
MAX_CHUNK_AUDIO_WINDOWS = 64  # audio windows in one chunk
MAX_CHUNK_BYTES = 32 * 1024 * 1024  # encoded bytes in one chunk
MAX_IMAGE_BYTES = 16 * 1024 * 1024  # encoded bytes of one query image
MAX_IMAGE_PX = 50_000_000  # pixels of one image or video frame
MAX_TEXT_BATCH = 64  # texts in one call
MAX_IMAGE_BATCH = 16  # encoded images in one call
MAX_TEXT_BYTES = 8_192  # bytes of one text; longer ones are refused
MAX_AUDIO_SAMPLES = 30 * 16_000  # samples of one audio query: 30 s

AUDIO_RATE_HZ = 16_000
AUDIO_WINDOW_S = 2.0  # length of one audio token
AUDIO_WINDOW_SAMPLES = int(AUDIO_WINDOW_S * AUDIO_RATE_HZ)  # 32,000

DECODED_SIDES = 2  # a decoded picture's short side over the encoder's, so resizing stays sharp

TOKEN_BUCKETS = (8, 16, 32, 64, 128, 256)  # token ids are padded to one of these, so requests batch

ABSENT = -1  # in FRAME_INDICES and AUDIO_STARTS: nothing here, decode a blank

ROLES = ("query", "passage")
TextEncoder = Literal["sentence", "clip", "sound_text"]
TEXT_MODELS: Mapping[TextEncoder, str] = {
    "sentence": "sentence",
    "clip": "clip_text",
    "sound_text": "sound_text",
}
Fit = Literal["crop", "squash"]  # a picture to a square: its centre cut out, or all of it squeezed
Padding = Literal["bucket", "fixed"]  # of token ids: to a bucket, or always to the limit


class Tensor(msgspec.Struct, frozen=True):
    """One input or output of a model."""

    name: str
    dtype: Dtype
    shape: tuple[int, ...]


class Model(msgspec.Struct, frozen=True):
    """One Triton model or ensemble as its callers see it."""

    name: str
    runtime: Runtime
    max_batch: int  # 0: the model has no batch axis of its own
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    summary: str
    parameters: Mapping[str, str] = {}  # of its config, that its code reads


class Dimensions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The sizes that a profile fixes, and how texts and pictures are brought to them."""

    vision: int  # width of a CLIP embedding, of text or image
    sentence: int  # width of a sentence embedding
    audio: int  # width of an audio embedding
    fused: int  # width of a fused segment embedding
    image_size_px: int  # height and width of the pixels that the vision encoder reads
    clip_tokens: int  # longest text of the CLIP tower, in tokens
    sentence_tokens: int  # longest text of the sentence encoder, in tokens
    sound_text_tokens: int = 0  # longest text of the encoder of texts for sounds; 0: there is none
    clip_padding: Padding = "bucket"  # "fixed" where the text tower reads its padding too
    fit: Fit = "crop"

    @property
    def decoded_px(self) -> int:
        """The short side to which pictures are shrunk as they are decoded."""
        return DECODED_SIDES * self.image_size_px


def models(dims: Dimensions) -> dict[str, Model]:
    """Return the contract of each model that runs something, by name, for a profile's sizes."""
    size = dims.image_size_px
    pixels = Tensor("PIXELS", "UINT8", (3, size, size))
    clip_ids = _token_ids("CLIP", dims.clip_tokens if dims.clip_padding == "fixed" else -1)
    sentence_ids = _token_ids("SENTENCE")
    sound_text_ids = _token_ids("SOUND_TEXT") if dims.sound_text_tokens else ()
    fitted = {} if dims.fit == "crop" else {"fit": dims.fit}
    contracts = [
        Model(
            "tokenize",
            "python",
            MAX_TEXT_BATCH,
            (Tensor("TEXT", "BYTES", (1,)), Tensor("ROLE", "BYTES", (1,))),
            (*clip_ids, *sentence_ids, *sound_text_ids),
            "Text to the token ids of the text encoders, padded to a bucket.",
        ),
        Model(
            "clip_text",
            "encoder",
            MAX_TEXT_BATCH,
            clip_ids,
            (Tensor("CLIP_EMBEDDING", "FP32", (dims.vision,)),),
            "CLIP text tower: token ids to a unit vector in the space of the frames.",
            _longest(dims.clip_tokens),
        ),
        Model(
            "sentence",
            "encoder",
            MAX_TEXT_BATCH,
            sentence_ids,
            (Tensor("SENTENCE_EMBEDDING", "FP32", (dims.sentence,)),),
            "Sentence encoder: token ids to a unit vector.",
            _longest(dims.sentence_tokens),
        ),
        Model(
            "decode_images",
            "python",
            MAX_IMAGE_BATCH,
            (Tensor("ENCODED", "UINT8", (-1,)),),
            (pixels,),
            "JPEG, PNG or WebP bytes, zero-padded to one length, to pixels of the encoder's size.",
            fitted,
        ),
        Model(
            "decode_video",
            "python",
            0,
            (Tensor("CHUNK", "UINT8", (-1,)), Tensor("FRAME_INDICES", "INT32", (-1,))),
            (Tensor("PIXELS", "UINT8", (-1, 3, size, size)),),
            "An encoded chunk to the pixels of the frames asked for, in the encoder's size.",
            fitted,
        ),
        Model(
            "fit_frames",
            "python",
            0,
            (Tensor("FRAMES", "UINT8", (-1, -1, -1, 3)),),
            (Tensor("PIXELS", "UINT8", (-1, 3, size, size)),),
            "Decoded frames (RGB, all of one size) to pixels of the encoder's size.",
            fitted,
        ),
        Model(
            "decode_audio",
            "python",
            0,
            (Tensor("CHUNK", "UINT8", (-1,)), Tensor("AUDIO_STARTS", "FP64", (-1,))),
            (Tensor("AUDIO", "FP32", (-1, -1)),),
            "An encoded chunk to windows of 16 kHz mono sound.",
        ),
        Model(
            "clip_vision",
            "encoder",
            MAX_CHUNK_FRAMES,
            (pixels,),
            (Tensor("IMAGE_EMBEDDING", "FP32", (dims.vision,)),),
            "CLIP vision tower: uint8 pixels to a unit vector; normalises inside its graph.",
        ),
        Model(
            "wav2vec2",
            "encoder",
            MAX_CHUNK_AUDIO_WINDOWS,
            (Tensor("AUDIO", "FP32", (-1,)),),
            (Tensor("AUDIO_EMBEDDING", "FP32", (dims.audio,)),),
            "The sound encoder, Wav2Vec2 or CLAP's: 16 kHz mono sound to a unit vector; what goes "
            "before, such as CLAP's spectrogram, is inside its graph.",
            _longest(MAX_AUDIO_SAMPLES),
        ),
        Model(
            "gather_segments",
            "python",
            0,
            (
                Tensor("FRAME_EMBEDDINGS", "FP32", (-1, dims.vision)),
                Tensor("FRAME_SEGMENTS", "INT32", (-1,)),
                Tensor("FRAME_WEIGHTS", "FP32", (-1,)),
                Tensor("AUDIO_EMBEDDINGS", "FP32", (-1, dims.audio)),
                Tensor("AUDIO_SEGMENTS", "INT32", (-1,)),
                Tensor("AUDIO_WEIGHTS", "FP32", (-1,)),
                Tensor("TEXT_EMBEDDINGS", "FP32", (-1, dims.sentence)),
                Tensor("TEXT_WEIGHTS", "FP32", (-1,)),
            ),
            tuple(Tensor(t.name, t.dtype, (-1, *t.shape)) for t in _segment_tokens(dims)),
            "The tokens of a chunk to one padded row of tokens a segment.",
        ),
        Model(
            "fusion",
            "encoder",
            MAX_CHUNK_SEGMENTS,
            _segment_tokens(dims),
            (Tensor("FUSED_EMBEDDING", "FP32", (dims.fused,)),),
            "PIX-weighted attention over the tokens of a segment to its fused unit vector.",
        ),
    ]
    if sound_text_ids:
        contracts.append(
            Model(
                "sound_text",
                "encoder",
                MAX_TEXT_BATCH,
                sound_text_ids,
                (Tensor("SOUND_TEXT_EMBEDDING", "FP32", (dims.audio,)),),
                "Text encoder for sounds: token ids to a unit vector in the space of the sounds.",
                _longest(dims.sound_text_tokens),
            )
        )
    return {model.name: model for model in contracts}


def _longest(length: int) -> Mapping[str, str]:
    """Return the parameter that bounds the variable axis of an encoder's inputs."""
    return {"longest": str(length)}


def _token_ids(encoder: str, length: int = -1) -> tuple[Tensor, ...]:
    return tuple(Tensor(f"{encoder}_{part}", "INT64", (length,)) for part in ("IDS", "MASK"))


def _segment_tokens(dims: Dimensions) -> tuple[Tensor, ...]:
    """Return the fusion network's inputs: tokens and their weights; weight 0 means absent."""
    return (
        Tensor("FRAME_TOKENS", "FP32", (-1, dims.vision)),
        Tensor("FRAME_TOKEN_WEIGHTS", "FP32", (-1,)),
        Tensor("AUDIO_TOKENS", "FP32", (-1, dims.audio)),
        Tensor("AUDIO_TOKEN_WEIGHTS", "FP32", (-1,)),
        Tensor("TEXT_TOKENS", "FP32", (-1, dims.sentence)),
        Tensor("TEXT_TOKEN_WEIGHTS", "FP32", (-1,)),
    )


def bucket(length: int, limit: int) -> int:
    """Return the padded length, in tokens, for `length` tokens of which `limit` are allowed."""
    fitting = (size for size in TOKEN_BUCKETS if length <= size <= limit)
    return next(fitting, limit)

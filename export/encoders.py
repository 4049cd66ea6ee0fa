"""The models of a profile, built from their checkpoints, tried, and written as files."""

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from tokenizers import Tokenizer
from torch import nn
from transformers.utils import logging as transformers_logging

from ensembles.arrays import FloatArray
from ensembles.bundle import Band, IntentModel
from ensembles.contracts import Model, Padding, models
from export import samples
from export.calibration import background_band, equivalence_band
from export.checkpoints import Sources
from export.intents import intent_model
from export.modules import (
    ClapSound,
    ClapText,
    ClipText,
    ClipVision,
    SiglipText,
    SiglipVision,
    Sound,
)
from export.parity import EncoderReport
from export.precision import Sample, Wanted, write_encoder
from export.profile_rows import Profile
from export.sentences import embed_sentences
from export.tokenizers import write_tokenizers
from export.weights import (
    build_clap,
    build_clip,
    build_fusion,
    build_sentence,
    build_siglip,
    build_sound,
    check_finite,
)
from export.word_bands import word_bands

Progress = Callable[[str, int, int], None]
IMAGE_BATCH = 8
CALIBRATION_ROWS = 4  # images, or sounds, turned round so that none of them is judged
CALIBRATION_STEP = 3  # every third of the made-up sentences is enough
EXACT_SENTENCES = 24
UNTRAINED_ROWS = 16  # enough to see that int8 of random weights works; its neighbours mean nothing


class Written(msgspec.Struct, frozen=True):
    """What was found out while the models were written."""

    bands: dict[str, Band]  # a leg each: visual, sound, fused, speech
    reports: list[EncoderReport]
    intents: IntentModel | None  # of the sentence encoder, where it is trained


def write_models(
    profile: Profile, sources: Sources, wanted: Wanted, staging: Path, progress: Progress
) -> Written:
    """Write one folder of files a model.

    Args:
        profile: what to build.
        sources: the folders of weights and of tokenizers.
        wanted: the precision.
        staging: the folder to fill.
        progress: told of each step.

    Raises:
        ConfigurationError: a checkpoint is broken or of another size, or an export is not exact.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    write_tokenizers(profile, sources.tokenizers, staging / "tokenize")
    contracts = models(profile.dims)
    tries = sample_inputs(profile, contracts, staging / "tokenize")
    if wanted.trust_int8:
        tries = {name: sample.judged_by(UNTRAINED_ROWS) for name, sample in tries.items()}
    builders = encoder_builders(profile, sources.weights)
    reports, judged = [], {}
    for done, (name, build) in enumerate(builders.items()):
        progress(f"export {name}", done, len(builders))
        (staging / name).mkdir()
        module = build()
        check_finite(name, module)
        path = staging / name / "model.onnx"
        report, judged[name] = write_encoder(module, contracts[name], tries[name], wanted, path)
        reports.append(report)
    progress("calibrate", len(builders), len(builders))
    bands = _bands(profile, judged, staging)
    if "clip" in sources.weights:  # words mean nothing to random weights
        bands |= word_bands(profile, staging)
    intents = intent_model(profile, staging) if "sentence" in sources.weights else None
    return Written(bands, reports, intents)


def encoder_builders(
    profile: Profile, folders: Mapping[str, Path]
) -> dict[str, Callable[[], nn.Module]]:
    """Return what builds each encoder: one at a time, so that memory holds one."""
    return {
        **_vision_builders(profile, folders.get("clip")),
        "sentence": lambda: build_sentence(profile, folders.get("sentence")).eval(),
        **_sound_builders(profile, folders.get("audio")),
        "fusion": lambda: build_fusion(profile, folders.get("fusion")).eval(),
    }


def _vision_builders(profile: Profile, folder: Path | None) -> dict[str, Callable[[], nn.Module]]:
    if profile.clip.family == "siglip":
        return {
            "clip_text": lambda: SiglipText(build_siglip(profile, folder)).eval(),
            "clip_vision": lambda: SiglipVision(build_siglip(profile, folder)).eval(),
        }
    return {
        "clip_text": lambda: ClipText(build_clip(profile, folder)).eval(),
        "clip_vision": lambda: ClipVision(build_clip(profile, folder)).eval(),
    }


def _sound_builders(profile: Profile, folder: Path | None) -> dict[str, Callable[[], nn.Module]]:
    if profile.audio.family == "clap":
        return {
            "wav2vec2": lambda: ClapSound(build_clap(profile, folder)).eval(),
            "sound_text": lambda: ClapText(build_clap(profile, folder)).eval(),
        }
    return {"wav2vec2": lambda: Sound(build_sound(profile, folder)).eval()}


def sample_inputs(
    profile: Profile, contracts: Mapping[str, Model], folder: Path
) -> dict[str, Sample]:
    """Return what each encoder is tried on; `folder` holds the tokenizers."""
    pixels = samples.images(profile.dims.image_size_px)
    batches = [
        {"PIXELS": pixels[start : start + IMAGE_BATCH]}
        for start in range(0, len(pixels), IMAGE_BATCH)
    ]
    windows = [{"AUDIO": sound[None]} for sound in samples.sounds()]
    tokens = samples.token_feed(contracts["fusion"].inputs, rows=4, tokens=5)
    sound_text = {}
    if "sound_text" in contracts:
        sound_text["sound_text"] = _text_sample(folder, "sound_text", profile.audio.text_tokens)
    return sound_text | {
        "clip_text": _text_sample(
            folder, "clip", profile.clip.tokens, causal=True, padding=profile.clip.padding
        ),
        "clip_vision": Sample(
            exact=[{"PIXELS": pixels[:1]}, {"PIXELS": pixels[1:8]}],
            judged=batches,
            seen=[{"PIXELS": pixels[:CALIBRATION_ROWS, ::-1, ::-1].copy()}],
        ),
        "sentence": _text_sample(folder, "sentence", profile.dims.sentence_tokens),
        "wav2vec2": Sample(
            exact=[{"AUDIO": batch} for batch in samples.sounds_of_several_lengths()],
            judged=windows,
            seen=[{"AUDIO": w["AUDIO"][:, ::-1].copy()} for w in windows[:CALIBRATION_ROWS]],
        ),
        "fusion": Sample(exact=[tokens], judged=[tokens]),
    }


def _text_sample(
    folder: Path, name: str, limit: int, *, causal: bool = False, padding: Padding = "bucket"
) -> Sample:
    """Return the texts of one encoder; a causal tower's padding may be cut, so that is tried."""
    texts = samples.TextSample(
        Tokenizer.from_file(str(folder / f"{name}.json")), name.upper(), limit, padding
    )
    lengths = texts.lengths()
    spoken = samples.spoken_sentences()
    return Sample(
        exact=[*lengths, *texts.sentences(spoken[:EXACT_SENTENCES])],
        judged=texts.sentences(spoken),
        seen=texts.sentences(samples.plain_sentences()[::CALIBRATION_STEP]),
        padded=[texts.padded(feed) for feed in lengths] if causal and padding == "bucket" else (),
    )


def _bands(profile: Profile, judged: Mapping[str, FloatArray], staging: Path) -> dict[str, Band]:
    visual = background_band(judged["clip_vision"])
    return {
        "visual": visual,
        "sound": background_band(judged["wav2vec2"]),
        "fused": visual,
        "speech": profile.sentence.band or _speech_band(profile, staging),
    }


def _speech_band(profile: Profile, staging: Path) -> Band:
    sentence = profile.sentence
    queries, answers = zip(*samples.answered_queries(), strict=True)
    return equivalence_band(
        embed_sentences(profile, staging, [sentence.query_prefix + text for text in queries]),
        embed_sentences(profile, staging, [sentence.passage_prefix + text for text in answers]),
    )

"""The models of a profile, built from their checkpoints, tried, and written as files."""

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import msgspec
from tokenizers import Tokenizer
from torch import nn
from transformers.utils import logging as transformers_logging

from ensembles.arrays import FloatArray
from ensembles.bundle import Band
from ensembles.contracts import Model, models
from export import samples
from export.calibration import background_band, equivalence_band
from export.checkpoints import Sources
from export.modules import ClipText, ClipVision, Sound
from export.parity import EncoderReport
from export.precision import Sample, Wanted, run_encoder, write_encoder
from export.profiles import TOKENIZER, Profile
from export.weights import build_clip, build_sentence, build_sound, check_finite
from training.models import fusion, mini_tokenizer

Progress = Callable[[str, int, int], None]
IMAGE_BATCH = 8
CALIBRATION_ROWS = 4  # images, or sounds, turned round so that none of them is judged
CALIBRATION_STEP = 3  # every third of the made-up sentences is enough
EXACT_SENTENCES = 24


class Written(msgspec.Struct, frozen=True):
    """What was found out while the models were written."""

    bands: dict[str, Band]  # a leg each: visual, sound, fused, speech
    reports: list[EncoderReport]


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
    _write_tokenizers(profile, sources.tokenizers, staging / "tokenize")
    contracts = models(profile.dims)
    tries = _samples(profile, contracts, staging / "tokenize")
    builders = _builders(profile, sources.weights)
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
    return Written(_bands(profile, judged, staging), reports)


def _builders(profile: Profile, folders: Mapping[str, Path]) -> dict[str, Callable[[], nn.Module]]:
    """Return what builds each encoder: one at a time, so that memory holds one."""
    clip = partial(build_clip, profile, folders.get("clip"))
    return {
        "clip_text": lambda: ClipText(clip()).eval(),
        "clip_vision": lambda: ClipVision(clip()).eval(),
        "sentence": lambda: build_sentence(profile, folders.get("sentence")).eval(),
        "wav2vec2": lambda: Sound(build_sound(profile, folders.get("audio"))).eval(),
        "fusion": lambda: fusion(profile.dims, profile.seed + 2),
    }


def _samples(profile: Profile, contracts: Mapping[str, Model], folder: Path) -> dict[str, Sample]:
    pixels = samples.images(profile.dims.image_size_px)
    batches = [
        {"PIXELS": pixels[start : start + IMAGE_BATCH]}
        for start in range(0, len(pixels), IMAGE_BATCH)
    ]
    windows = [{"AUDIO": sound[None]} for sound in samples.sounds()]
    tokens = samples.token_feed(contracts["fusion"].inputs, rows=4, tokens=5)
    return {
        "clip_text": _text_sample(folder, "clip", profile.dims.clip_tokens, cut_is_exact=True),
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


def _text_sample(folder: Path, name: str, limit: int, cut_is_exact: bool = False) -> Sample:
    """Return the texts of one encoder; a causal tower's padding may be cut, so that is tried."""
    texts = samples.TextSample(
        Tokenizer.from_file(str(folder / f"{name}.json")), name.upper(), limit
    )
    lengths = texts.lengths()
    spoken = samples.spoken_sentences()
    return Sample(
        exact=[*lengths, *texts.sentences(spoken[:EXACT_SENTENCES])],
        judged=texts.sentences(spoken),
        seen=texts.sentences(samples.plain_sentences()[::CALIBRATION_STEP]),
        padded=[texts.padded(feed) for feed in lengths] if cut_is_exact else (),
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
    tokenizer = Tokenizer.from_file(str(staging / "tokenize" / "sentence.json"))
    texts = samples.TextSample(tokenizer, "SENTENCE", sentence.tokens)
    queries, answers = zip(*samples.answered_queries(), strict=True)
    path = staging / "sentence" / "model.onnx"
    return equivalence_band(
        run_encoder(path, texts.sentences([sentence.query_prefix + text for text in queries])),
        run_encoder(path, texts.sentences([sentence.passage_prefix + text for text in answers])),
    )


def _write_tokenizers(profile: Profile, folders: Mapping[str, Path], folder: Path) -> None:
    """Write both tokenizers, the mini CLIP's where there is no other, and their settings."""
    folder.mkdir()
    if "clip" in folders:
        shutil.copy(folders["clip"] / TOKENIZER, folder / "clip.json")
    else:
        mini_tokenizer().save(str(folder / "clip.json"))
    shutil.copy(folders["sentence"] / TOKENIZER, folder / "sentence.json")
    settings = {
        "query_prefix": profile.sentence.query_prefix,
        "passage_prefix": profile.sentence.passage_prefix,
        "clip_tokens": profile.dims.clip_tokens,
        "sentence_tokens": profile.dims.sentence_tokens,
    }
    (folder / "tokenize.json").write_bytes(msgspec.json.encode(settings))

"""LoRA for the CLIP towers on a captioned folder (Hu et al. 2021), merged into their weights."""

import hashlib
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import CLIPModel

from ensembles.arrays import FloatArray, UInt8Array
from ensembles.bundle import Band, Bundle, bundle_folder
from ensembles.tokens import BucketTokenizer
from export.calibration import equivalence_band
from export.modules import ClipText, ClipVision
from export.precision import run_encoder
from export.profiles import find_profile
from export.weights import build_clip
from gateway.errors import ConfigurationError, InvalidRequest
from training.evaluation.bootstrap import compare, measure, ndcg_at
from training.tuning.captioned import CAPTIONS_FILE, Captions, load_pixels, read_captions
from training.tuning.examples import Int64Array, is_pair, ranks, split
from training.tuning.fit import FitSettings, Fitted, Progress, fit, info_nce
from training.tuning.pairs import embed_queries
from training.tuning.runs import (
    PAIRS_FILE,
    Run,
    checkpoint_path,
    load_weights,
    run_key,
    write_run,
)

RANK, ALPHA = 8, 32
TARGETS = ["q_proj", "v_proj"]
EMBEDDED_AT_ONCE = 16
LEAST_COSINE = 0.999  # of the weights that training starts from with the file that is served
LEAST_COSINE_ROUNDED = 0.98  # where that is not in fp32
CHECKED_TEXTS = 8

SETTINGS = FitSettings(epochs=20, batch=32, learning_rate=2e-4, weight_decay=0.0, patience=4)


def train_clip(
    source: Path,
    bundle: Bundle,
    models_dir: Path,
    folder: Path,
    wanted: FitSettings,
    progress: Progress,
    checkpoint: Path | None = None,
) -> Run:
    """Train both CLIP towers of a bundle on a captioned folder.

    Args:
        source: images and CAPTIONS_FILE.
        bundle: what is trained.
        models_dir: where it is.
        folder: of the run; one that was interrupted goes on there.
        wanted: how to train.
        progress: told of each epoch.
        checkpoint: the folder of the bundle's CLIP weights, where the project has none itself.

    Raises:
        InvalidRequest, NotFound, TooLarge: the captions are empty, malformed, too few or of one
            class, or name images that are not there.
        MediaRefused: an image cannot be decoded.
        ConfigurationError: the weights are not those that are served, or the loss is no number.
    """
    captions = read_captions(source)
    pairs = np.array(captions.pairs, np.int64)
    parts = split(pairs, captions.captions, captions.files, wanted.seed)
    files = bundle_folder(models_dir, bundle.profile, bundle.version)
    clip = starting_clip(bundle, files, checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    pixels = load_pixels(source, captions.files, bundle.dims.image_size_px)
    tokenizer = BucketTokenizer(files / "tokenize", "clip")
    captioned = CaptionedPixels(pixels, captions.captions, pairs, tokenizer)
    ranks_before = ClipTask(clip, captioned, parts.train, parts.held_out).ranks()
    add_adapters(clip, wanted.seed)
    task = ClipTask(clip, captioned, parts.train, parts.validation)
    key = run_key([captions, hashlib.sha256(pixels.data).hexdigest()], bundle, wanted)
    fitted = fit(task, wanted, checkpoint_path(folder, key), progress)
    band = task.band()
    merge_adapters(clip)
    after = ClipTask(clip, captioned, parts.train, parts.held_out)
    run = _describe(
        bundle, key, source, captions, wanted, fitted, ranks_before, after.ranks(), band
    )
    write_run(folder, run, clip)
    shutil.copy(source / CAPTIONS_FILE, folder / PAIRS_FILE)
    return run


def bundle_ranks(
    bundle: Bundle, models_dir: Path, source: Path, listed: Path, seed: int
) -> list[int]:
    """Return the ranks of held-out captions' images, among those held out, by a bundle's files.

    Args:
        bundle: whose text and vision towers.
        models_dir: where it is.
        source: the folder of the images.
        listed: the run's file of captions.
        seed: of the run.
    """
    captions = read_captions(source, listed)
    pairs = np.array(captions.pairs, np.int64)
    held_out = split(pairs, captions.captions, captions.files, seed).held_out
    images = np.unique(held_out[:, 1])
    files = bundle_folder(models_dir, bundle.profile, bundle.version)
    judged = tuple(captions.files[at] for at in images)
    pixels = load_pixels(source, judged, bundle.dims.image_size_px)
    feeds = [
        {"PIXELS": pixels[at : at + EMBEDDED_AT_ONCE]}
        for at in range(0, len(pixels), EMBEDDED_AT_ONCE)
    ]
    looks = run_encoder(files / "clip_vision" / "model.onnx", feeds)
    words = embed_queries(files, "clip", captions.captions)
    return ranks(words @ looks.T, held_out, images, pairs)


@dataclass(frozen=True)
class CaptionedPixels:
    """A captioned folder as the towers read it."""

    pixels: UInt8Array  # (images, 3, size, size)
    captions: tuple[str, ...]
    pairs: Int64Array  # (pairs, 2) all of a caption and an image
    tokenizer: BucketTokenizer  # of the text tower


class ClipTask:
    """Both towers to be trained on captions; see `training.tuning.fit.Task`.

    Args:
        clip: is trained, where its weights require a gradient.
        captioned: images and captions.
        train: (pairs, 2) of a caption and an image.
        judged: (pairs, 2) that `ranks` and `ndcg` are of.
    """

    def __init__(
        self,
        clip: CLIPModel,
        captioned: CaptionedPixels,
        train: Int64Array,
        judged: Int64Array,
    ) -> None:
        self.module: nn.Module = clip
        self.pairs = train
        self._text, self._vision = ClipText(clip), ClipVision(clip)
        self._log_scale = clip.logit_scale.detach()
        self._captioned = captioned
        self._judged = judged

    def loss(self, pairs: Int64Array) -> Tensor:
        """Return the loss of a batch of pairs (n, 2)."""
        captions, images = pairs.T
        scores = self._words(captions) @ self._looks(images).T
        return info_nce(scores, self._log_scale, is_pair(self.pairs, captions, images))

    def ndcg(self) -> float:
        """Return the mean nDCG@10 of the judged pairs."""
        return float(ndcg_at(self.ranks()).mean())

    def ranks(self) -> list[int]:
        """Return the rank of each judged pair's image among all that are judged."""
        captions, images = self._judged[:, 0], np.unique(self._judged[:, 1])
        asked = np.unique(captions)
        scores = np.zeros((len(self._captioned.captions), len(images)), np.float32)
        scores[asked] = self._embedded(self._words, asked) @ self._embedded(self._looks, images).T
        return ranks(scores, self._judged, images, self._captioned.pairs)

    def band(self) -> Band:
        """Return the band of captions' cosines with images, from the judged pairs."""
        captions, images = self._judged.T
        return equivalence_band(
            self._embedded(self._words, captions), self._embedded(self._looks, images)
        )

    def _words(self, captions: Int64Array) -> Tensor:
        texts = [self._captioned.captions[at] for at in captions]
        encoded = self._captioned.tokenizer.encode(texts, ["query"] * len(texts))
        embeddings: Tensor = self._text(*map(torch.from_numpy, encoded.values()))
        return embeddings

    def _looks(self, images: Int64Array) -> Tensor:
        embeddings: Tensor = self._vision(torch.from_numpy(self._captioned.pixels[images]))
        return embeddings

    @torch.no_grad()
    def _embedded(self, embed: Callable[[Int64Array], Tensor], rows: Int64Array) -> FloatArray:
        self.module.eval()
        parts = np.array_split(rows, math.ceil(len(rows) / EMBEDDED_AT_ONCE))
        found: FloatArray = torch.cat([embed(part) for part in parts]).numpy()
        return found


def starting_clip(bundle: Bundle, files: Path, checkpoint: Path | None) -> CLIPModel:
    """Return the CLIP towers of a bundle as a module to train on.

    Args:
        bundle: whose.
        files: its folder.
        checkpoint: a folder of weights, or None: the bundle's own, or the project's.

    Raises:
        InvalidRequest: its towers are no CLIP.
        ConfigurationError: the bundle's file says something else than these weights.
    """
    profile = find_profile(bundle.profile)
    if profile.clip.family != "clip":
        raise InvalidRequest(
            f"the towers of {bundle.profile} are no CLIP, and only CLIP is trained"
        )
    own = {} if bundle.random_weights else profile.own_weights
    clip = build_clip(profile, checkpoint or own.get("clip"))
    tuned = files / "clip.safetensors"
    if checkpoint is None and tuned.is_file():
        load_weights(clip, tuned)
    tokenizer = BucketTokenizer(files / "tokenize", "clip")
    texts = [f"a photograph number {number}" for number in range(CHECKED_TEXTS)]
    feed = tokenizer.encode(texts, ["query"] * CHECKED_TEXTS)
    with torch.no_grad():
        ours = ClipText(clip)(*map(torch.from_numpy, feed.values())).numpy()
    theirs = run_encoder(files / "clip_text" / "model.onnx", [feed])
    cosine = float((ours * theirs).sum(axis=1).min())
    exact = bundle.precisions.get("clip_text", "fp32") == "fp32"
    if not cosine >= (LEAST_COSINE if exact else LEAST_COSINE_ROUNDED):
        raise ConfigurationError(
            f"{bundle.id} serves other CLIP weights than these (least cosine {cosine:.4f}): name "
            "the folder that it was exported from with --checkpoint FOLDER, or export it again"
        )
    return clip


def add_adapters(clip: CLIPModel, seed: int) -> None:
    """Add low-rank adapters to the queries and values of both towers; only they are trained."""
    torch.manual_seed(seed)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=TARGETS)
    inject_adapter_in_model(config, clip)


def merge_adapters(clip: CLIPModel) -> None:
    """Add the adapters to the weights that they adapt, and leave the model as it was before."""
    adapted = [(name, part) for name, part in clip.named_modules() if isinstance(part, LoraLayer)]
    for name, part in adapted:
        part.merge(safe_merge=True)
        parent, _, own = name.rpartition(".")
        setattr(clip.get_submodule(parent), own, part.get_base_layer())
    clip.requires_grad_(True)
    clip.eval()


def _describe(
    bundle: Bundle,
    key: str,
    source: Path,
    captions: Captions,
    wanted: FitSettings,
    fitted: Fitted,
    before: list[int],
    after: list[int],
    band: Band,
) -> Run:
    return Run(
        kind="clip",
        trained_from=bundle.id,
        key=key,
        source=str(source),
        pairs=len(captions.pairs),
        held_out=len(after),
        settings=wanted,
        fitted=fitted,
        measures={"current": measure(before), "trained": measure(after)},
        against_current=compare(ndcg_at(after), ndcg_at(before)),
        bands={"visual_by_words": band},
    )

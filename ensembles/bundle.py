"""A bundle: one version number across all models, and all that callers must know of it."""

from pathlib import Path
from typing import Literal, get_args

import msgspec

from ensembles.contracts import Dimensions
from gateway.errors import ConfigurationError


class Capabilities(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a bundle's embeddings can be compared with."""

    words_to_pixels: bool  # a CLIP text embedding finds frames
    words_to_sounds: bool  # a text embedding finds audio
    fusion_trained: bool  # untrained, a fused embedding is the mean of the frame embeddings


class Band(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The raw scores between which a leg's relevance rises from 0 to 1."""

    low: float
    high: float


Intent = Literal["look", "motion", "sound", "speech", "several"]  # what a query's words ask for
INTENTS: tuple[Intent, ...] = get_args(Intent)
FLOAT_BYTES = 4


class IntentModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Reads intents off sentence embeddings: softmax of embedding @ weights + biases."""

    names: tuple[Intent, ...]  # of the columns
    weights: bytes  # float32, (sentence, intents), row by row; base64 in JSON
    biases: tuple[float, ...]  # (intents,)


class Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One exported version of a profile's models.

    `calibration` has a band a leg: `visual`, `speech`, `sound`, `fused` in cosines, `keyword` in
    BM25; where measured, `visual_by_words` and so on for the cosines of words with pixels, sounds
    and fused embeddings. `random_weights` marks architectures without training, for benchmarks.
    """

    profile: str
    version: int
    dims: Dimensions
    capabilities: Capabilities
    calibration: dict[str, Band]
    intents: IntentModel | None = None  # None: no trained sentence encoder, or exported before
    query_prefix: str = ""
    passage_prefix: str = ""
    random_weights: bool = False
    precisions: dict[str, str] = {}
    sources: dict[str, str] = {}  # model → where its weights came from, with a content hash
    key: str = ""  # SHA-256 over all that went in; the same key needs no new export

    @property
    def id(self) -> str:
        """The name that vectors, collections and replies carry, e.g. `mini-1`."""
        return f"{self.profile}-{self.version}"


def bundle_folder(models_dir: Path, profile: str, version: int) -> Path:
    """Return the folder of one bundle: its description and its models' files, never changed."""
    return models_dir / profile / "bundles" / str(version)


def repository_path(models_dir: Path, profile: str) -> Path:
    """Return the folder that Triton loads as its model repository, made from the bundles."""
    return models_dir / profile / "repository"


def list_bundles(models_dir: Path, profile: str) -> tuple[Bundle, ...]:
    """Return a profile's exported bundles, oldest first; empty where nothing was exported."""
    files = (models_dir / profile / "bundles").glob("[0-9]*/bundle.json")
    return tuple(sorted(map(read_bundle, files), key=lambda bundle: bundle.version))


def servable_bundles(
    models_dir: Path, profile: str, allow_random_weights: bool
) -> tuple[Bundle, ...]:
    """Return the exported bundles that may be served, oldest first; empty where there is none.

    Args:
        models_dir: of the data folder.
        profile: whose bundles.
        allow_random_weights: serve bundles without training too, for benchmarks.

    Raises:
        ConfigurationError: there are bundles, but all of them have random weights.
    """
    bundles = list_bundles(models_dir, profile)
    servable = tuple(b for b in bundles if allow_random_weights or not b.random_weights)
    if bundles and not servable:
        raise ConfigurationError(
            f"{', '.join(bundle.id for bundle in bundles)}: random weights, whose answers mean "
            "nothing. Serve them for a benchmark with --allow-random-weights, or export the "
            f"trained models: pixserve export --profile {profile}"
        )
    return servable


def read_bundle(path: Path) -> Bundle:
    """Read one bundle's description.

    Raises:
        msgspec.ValidationError: the file is not one.
        ConfigurationError: what reads intents is not of the sentence encoder's width.
    """
    bundle = msgspec.json.decode(path.read_bytes(), type=Bundle)
    if bundle.intents is not None:
        _check_intents(bundle.intents, bundle)
    return bundle


def _check_intents(model: IntentModel, bundle: Bundle) -> None:
    width = len(model.names)
    is_whole = sorted(model.names) == sorted(INTENTS) and len(model.biases) == width
    if not is_whole or len(model.weights) != FLOAT_BYTES * bundle.dims.sentence * width:
        raise ConfigurationError(
            f"{bundle.id}: what reads intents does not fit its sentence encoder: export it again"
        )

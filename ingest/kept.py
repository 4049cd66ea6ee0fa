"""What an analysis leaves beside its video, so that a deeper one need not find it again.

Beside the tokens these are the scenes of each tier that was run, which depend on the file alone,
and the pictures of keyframes, which are in the file of thumbnails with their times.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ensembles.bundle import Bundle
from gateway.catalogue.catalogue import SegmentFacts
from gateway.errors import ConfigurationError
from ingest.files import replacing
from ingest.from_tokens import check_texts
from ingest.media import NO_KEYFRAMES, Keyframes
from ingest.scenes import Scene
from ingest.thumbnails import THUMBNAILS_FILE, read_keyframes
from ingest.tokens import Tokens, read_tokens, tokens_path

SCENES_FILE = "scenes.json"


class FoundScenes(msgspec.Struct, frozen=True):
    """A video's scenes, as each tier found them."""

    keyframe_tier: tuple[Scene, ...] = ()
    full_tier: tuple[Scene, ...] | None = None  # None: it was not run


@dataclass(frozen=True)
class Kept:
    """What is there of earlier analyses; what is missing or damaged is found anew."""

    tokens: Tokens | None = None
    texts: tuple[str, ...] = ()  # of the tokens' segments; empty: not known
    scenes: FoundScenes | None = None
    keyframes: Keyframes = NO_KEYFRAMES


NOTHING_KEPT = Kept()


def read_kept(folder: Path, bundle: Bundle, segments: Sequence[SegmentFacts]) -> Kept:
    """Return what is kept of a video.

    Args:
        folder: the video's.
        bundle: whose tokens are wanted; another one's are none.
        segments: of the video as the catalogue has them, in order: they tell the tokens' texts.
    """
    return Kept(
        *_read_tokens(tokens_path(folder, bundle.id), bundle, segments),
        scenes=_read_scenes(folder / SCENES_FILE),
        keyframes=read_keyframes(folder / THUMBNAILS_FILE),
    )


def write_scenes(path: Path, scenes: FoundScenes) -> None:
    """Write a video's scenes; a crash leaves the old file or the new one."""
    with replacing(path) as file:
        file.write(msgspec.json.encode(scenes))


def _read_tokens(
    path: Path, bundle: Bundle, segments: Sequence[SegmentFacts]
) -> tuple[Tokens | None, tuple[str, ...]]:
    try:
        tokens = read_tokens(path, bundle)
    except ConfigurationError:
        return None, ()
    with suppress(ConfigurationError):
        check_texts(tokens, segments)
        return tokens, tuple(segment.text for segment in segments)
    return tokens, ()  # a try that was killed may have left them: what was seen is still that


def _read_scenes(path: Path) -> FoundScenes | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=FoundScenes)
    except (OSError, msgspec.MsgspecError):
        return None

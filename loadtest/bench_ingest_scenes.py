"""Cuts found by both tiers of ours and by PySceneDetect, held against those that were made."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]  # it has no types

from gateway.errors import ConfigurationError
from ingest.probe import probe, read_packets
from ingest.sandbox import SANDBOX
from ingest.scenes import Scene, full_scenes, keyframe_scenes
from loadtest.bench_ingest_cost import cpu_s
from loadtest.bench_ingest_media import Recipe, edges_s

TOLERANCE_S = 0.2  # between a cut that was found and the one that was made


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What one way found in one file."""

    cuts_s: tuple[float, ...]
    hits: int  # of the true cuts
    f1: float
    cpu_s: float  # of this process and those below it


class ScenesReport(msgspec.Struct, frozen=True, kw_only=True):
    """One file."""

    recipe: Recipe
    cuts: int
    default: Found  # keyframes and packet sizes; with probing and reading the packets
    full: Found  # five looks a second; the same
    content: Found  # PySceneDetect's ContentDetector as it comes
    adaptive: Found  # its AdaptiveDetector as it comes


def bench_scenes(recipe: Recipe, path: Path) -> ScenesReport:
    """Find the cuts of a file in four ways.

    Raises:
        ConfigurationError: PySceneDetect is not installed.
    """
    true = edges_s(recipe)[1:-1]
    SANDBOX.enforced()  # its start is no part of what is compared
    return ScenesReport(
        recipe=recipe,
        cuts=len(true),
        default=_found(true, lambda: _ours(path, full=False)),
        full=_found(true, lambda: _ours(path, full=True)),
        content=_found(true, lambda: peer_cuts(path, "content")),
        adaptive=_found(true, lambda: peer_cuts(path, "adaptive")),
    )


class Pooled(msgspec.Struct, frozen=True):
    """One way over several files."""

    f1: float  # of all their cuts
    cpu_s: float


def pooled(reports: Sequence[ScenesReport], way: str) -> Pooled:
    """Return what one way came to over several files.

    Args:
        reports: of the files.
        way: default, full, content or adaptive.
    """
    found: list[Found] = [getattr(report, way) for report in reports]
    counts = (sum(one.hits for one in found), sum(len(one.cuts_s) for one in found))
    score = f1_of(*counts, sum(report.cuts for report in reports))
    return Pooled(score, sum(one.cpu_s for one in found))


def hits(found: Sequence[float], true: Sequence[float]) -> int:
    """Count the true cuts with a cut found within TOLERANCE_S; each of these counts once."""
    left = list(found)
    for cut_s in true:
        near = [time_s for time_s in left if abs(time_s - cut_s) <= TOLERANCE_S]
        if near:
            left.remove(min(near, key=lambda time_s: abs(time_s - cut_s)))
    return len(found) - len(left)


def f1(found: Sequence[float], true: Sequence[float]) -> float:
    """Return the F1 score of cuts found, each within TOLERANCE_S of one true cut."""
    return f1_of(hits(found, true), len(found), len(true))


def f1_of(hit: int, found: int, true: int) -> float:
    """Return the F1 score of so many cuts found and true ones; 1 where there are none of both."""
    return 2 * hit / (found + true) if found or true else 1.0


def cuts_of(scenes: Sequence[Scene]) -> list[float]:
    """Return where scenes begin, but for the first."""
    return [scene.start_s for scene in scenes[1:]]


def peer_cuts(path: Path, detector: str) -> list[float]:
    """Return the cuts that PySceneDetect finds, as it comes; `content` or `adaptive`.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        from scenedetect import AdaptiveDetector, ContentDetector, SceneManager, open_video
    except ImportError as error:
        raise ConfigurationError(
            f"comparing scenes needs {error.name}: pip install scenedetect opencv-python"
        ) from error
    manager = SceneManager()
    manager.add_detector(AdaptiveDetector() if detector == "adaptive" else ContentDetector())
    manager.detect_scenes(open_video(str(path), backend="pyav"))
    return [start.seconds for start, _ in manager.get_scene_list()[1:]]


def _ours(path: Path, *, full: bool) -> list[float]:
    info = probe(path)
    packets = read_packets(path, info)
    return cuts_of((full_scenes if full else keyframe_scenes)(path, info, packets))


def _found(true: Sequence[float], find: Callable[[], list[float]]) -> Found:
    begun_s = _cpu_s()
    cuts_s = find()
    return Found(
        cuts_s=tuple(cuts_s),
        hits=hits(cuts_s, true),
        f1=f1(cuts_s, true),
        cpu_s=_cpu_s() - begun_s,
    )


def _cpu_s() -> float:
    """Return what this process and those below it have used."""
    this = psutil.Process()
    return cpu_s((this, *this.children(recursive=True)))

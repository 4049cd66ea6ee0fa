from pathlib import Path

import pytest

from tests.hostile import MAX_CPU_S, MAX_MEMORY_MIB, Result, run
from tests.hostile_files import KINDS, Lures, hostile_files

SAMPLE = 3 * len(KINDS)  # of the 500 that `python -m tests.hostile` tries
SEED = 20261121


def test_hostile_files_are_refused_with_a_reason_or_analysed_within_their_limits(
    tmp_path: Path,
) -> None:
    report = run(tmp_path, SAMPLE, SEED, lambda _: None)

    assert report.broken == []
    assert report.visits == 0
    by_kind = {kind: {r.outcome for r in report.results if r.kind == kind} for kind in KINDS}
    assert by_kind["archive"] == by_kind["playlist"] == {"refused: not_media"}
    assert by_kind["thousands of streams"] == {"refused: streams"}
    assert "indexed" in report.outcomes  # a file that is spoilt a little is still worth something


def test_hostile_files_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    lures = Lures(Path("/nowhere/secret"), "http://127.0.0.1:1/lure")
    files = [
        [(h.kind, h.path.read_bytes()) for h in hostile_files(tmp_path / name, 13, 7, lures)]
        for name in ("one", "other")
    ]
    same = [one[0] for one, other in zip(*files, strict=True) if one == other]
    assert set(same) >= set(KINDS) - {"archive"}  # an archive notes when it was made


@pytest.mark.parametrize(
    ("outcome", "cpu_s", "memory_mib", "held"),
    [
        ("indexed", 1.0, 100.0, True),
        ("refused: streams", 1.0, 100.0, True),
        ("broke: KeyError: 'x'", 1.0, 100.0, False),
        ("indexed", MAX_CPU_S + 1, 100.0, False),
        ("refused: memory", 1.0, MAX_MEMORY_MIB + 1, False),
    ],
)
def test_a_file_that_breaks_a_rule_is_told(
    outcome: str, cpu_s: float, memory_mib: float, held: bool
) -> None:
    assert Result("kind", "name", outcome, cpu_s, 0.0, memory_mib).is_held is held

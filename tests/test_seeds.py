"""Figures over several training seeds."""

from pathlib import Path

import msgspec
import pytest

from export.profile_rows import OWN_WEIGHTS
from gateway.errors import ConfigurationError
from training.seeds import main, over_seeds, read_reports, relative_gain
from training.trained import REPORT, Report


def test_an_interval_over_seeds_is_students() -> None:
    found = over_seeds([0.6, 0.7, 0.8])  # sample deviation 0.1, t of two degrees of freedom 4.303
    assert found.mean == pytest.approx(0.7)
    assert found.high - found.mean == pytest.approx(4.303 * 0.1 / 3**0.5)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


@pytest.mark.parametrize("count", [0, 1, 11])
def test_too_few_and_too_many_seeds_are_refused(count: int) -> None:
    with pytest.raises(ConfigurationError, match=f"2 to 10 of them, got {count}"):
        over_seeds([0.5] * count)


def test_the_gain_of_fusion_is_relative() -> None:
    figures = {"fused mixed": {"ndcg@10": 0.6}, "visual mixed": {"ndcg@10": 0.2}}
    assert relative_gain(figures) == pytest.approx(2.0)


def _folder(path: Path, seed: int) -> Path:
    own = msgspec.json.decode((OWN_WEIGHTS / REPORT).read_bytes(), type=Report)
    path.mkdir()
    (path / REPORT).write_bytes(msgspec.json.encode(msgspec.structs.replace(own, seed=seed)))
    return path


def test_a_seed_may_come_once_and_folders_must_hold_a_report(tmp_path: Path) -> None:
    first, again = _folder(tmp_path / "a", 1), _folder(tmp_path / "b", 1)
    with pytest.raises(ConfigurationError, match="each seed may come once"):
        read_reports([first, again])
    with pytest.raises(ConfigurationError, match="make train"):
        read_reports([first, tmp_path])


def test_the_table_has_every_leg(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [_folder(tmp_path / str(seed), seed) for seed in (1, 2, 3)]
    main(folders)
    shown = capsys.readouterr().out
    assert "fused above visual: +240 % [240, 240]" in shown
    for row in read_reports(folders)[0].figures:
        assert row.split()[0] in shown

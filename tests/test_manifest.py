import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from gateway.errors import InvalidRequest
from gateway.schemas import VideoMetadata
from ingest.manifest import MAX_LINE_BYTES, Item, read_items

DEFAULTS = VideoMetadata(creator_id="anna", tags=("all",), pix=5)


def files(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def manifest(folder: Path, kind: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / f"manifest.{kind}"
    if kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    else:
        names = list(dict.fromkeys(name for row in rows for name in row))
        columns = {name: [row.get(name) for row in rows] for name in names}
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def items(*paths: Path) -> list[Item]:
    return list(read_items(paths, DEFAULTS))


def test_a_folder_is_searched_for_media_with_their_transcripts(tmp_path: Path) -> None:
    files(tmp_path, "b.mp4", "a.MKV", "deep/c.webm", "deep/c.vtt", "notes.txt", "b.srt.bak")
    found = items(tmp_path)
    assert [item.path.name for item in found] == ["a.MKV", "b.mp4", "c.webm"]
    assert [item.transcript for item in found] == [None, None, tmp_path / "deep" / "c.vtt"]
    assert [item.metadata.title for item in found] == ["a", "b", "c"]
    assert {item.metadata.creator_id for item in found} == {"anna"}


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_row_goes_before_the_defaults_and_paths_are_the_manifests_own(
    tmp_path: Path, kind: str
) -> None:
    files(tmp_path, "films/a.mp4", "b.mp4", "words.srt")
    path = manifest(
        tmp_path,
        kind,
        [
            {"path": "films/a.mp4", "title": "A", "pix": 7, "tags": ["one", "two"]},
            {"path": str(tmp_path / "b.mp4"), "transcript": "words.srt", "language": "pt-BR"},
        ],
    )
    first, second = items(path)
    assert first.path == tmp_path / "films" / "a.mp4"
    assert (first.metadata.title, first.metadata.pix) == ("A", 7)
    assert (first.metadata.tags, first.metadata.creator_id) == (("one", "two"), "anna")
    assert second.transcript == tmp_path / "words.srt"
    assert (second.metadata.title, second.metadata.pix) == ("b", 5)
    assert (second.metadata.language, second.metadata.tags) == ("pt-BR", ("all",))


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"title": "no path"}, "path"),
        ({"path": ""}, "path"),
        ({"path": 5}, "path"),
        ({"path": "nothing.mp4"}, "there is no file"),
        ({"path": "../../etc"}, "there is no file"),
        ({"path": "a.mp4\0.txt"}, "is no path"),
        ({"path": "x" * 5_000}, "is no path"),
        ({"path": "a.mp4", "transcript": "nothing.srt"}, "transcript"),
        ({"path": "a.mp4", "pix": -1}, "pix"),
        ({"path": "a.mp4", "pix": 1.5}, "pix"),
        ({"path": "a.mp4", "pix": "many"}, "pix"),
        ({"path": "a.mp4", "creator_id": "../x"}, "creator_id"),
        ({"path": "a.mp4", "tags": "one"}, "tags"),
        ({"path": "a.mp4", "colour": "red"}, "colour"),
    ],
)
def test_a_wrong_row_is_refused_and_named(
    tmp_path: Path, kind: str, row: dict[str, Any], told: str
) -> None:
    files(tmp_path, "a.mp4")
    path = manifest(tmp_path, kind, [row])
    with pytest.raises(InvalidRequest, match=r"(line|row) 1.*" + told):
        items(path)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", b"["),
        ("a.jsonl", b"[]\n"),
        ("a.jsonl", b'"text"\n'),
        ("a.jsonl", b"\xff\xfe\n"),
        ("a.jsonl", b'{"path": "' + b"x" * MAX_LINE_BYTES + b'"}'),
        ("a.parquet", b""),
        ("a.parquet", b"PAR1 damaged PAR1"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InvalidRequest, match=name):
        items(path)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    files(tmp_path, "empty/notes.txt")
    with pytest.raises(InvalidRequest, match="no such file"):
        items(tmp_path / "nothing")
    with pytest.raises(InvalidRequest, match="no video"):
        items(tmp_path / "empty")


def test_rows_before_a_wrong_one_are_read(tmp_path: Path) -> None:
    files(tmp_path, "a.mp4")
    path = manifest(tmp_path, "jsonl", [{"path": "a.mp4"}, {"path": "nothing.mp4"}])
    reading = read_items([path], DEFAULTS)
    assert next(reading).path.name == "a.mp4"
    with pytest.raises(InvalidRequest, match="line 2"):
        next(reading)

"""Embedding by the batch, against an encoder in this process: order, limits, retries, bad items."""

import asyncio
import errno
import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ensembles.build import MINI
from ensembles.bundle import Bundle, Capabilities
from gateway.batch import Limits, Row, back_off, embed_all
from gateway.batch_encoders import Encoder, read_image
from gateway.batch_outputs import check_output, open_output
from gateway.batch_plan import Item, padded_bytes, padded_tokens, plan_batches
from gateway.batch_sources import EMPTY_LINE, count_images, count_lines, read_images, read_lines
from gateway.cli import app
from gateway.errors import (
    ConfigurationError,
    DeadlineExceeded,
    InvalidRequest,
    MediaRefused,
    ModelFailed,
    Overloaded,
    PixserveError,
    StorageFull,
    TooLarge,
    Unavailable,
)
from tests.fake_triton import looks

WIDTH = 8
BUNDLE = Bundle("mini", 1, MINI, Capabilities(False, False, False), {})
QUICK = Limits(back_off_s=0.001)


class FakeEncoder:
    """Embeds any text but those that start with `bad`; fails as often as it is told to first.

    Answers come out of order: each call takes a random while.
    """

    def __init__(self, *failures: PixserveError, error: Exception | None = None) -> None:
        self.calls: list[list[str]] = []
        self.at_once = self.most_at_once = 0
        self._failures = list(failures)
        self._error = error
        self._rng = random.Random(0)

    async def send(self, items):
        self.calls.append([item.content for item in items])
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self._rng.uniform(0, 0.003))
        self.at_once -= 1
        if self._failures:
            raise self._failures.pop()
        if self._error is not None:
            raise self._error
        bad = [item.content for item in items if item.content.startswith("bad")]
        if bad:
            raise MediaRefused("not_media", f"{bad[0]} is not an image")
        return np.stack([looks(item.content.encode(), WIDTH) for item in items])


def embed(fake: FakeEncoder, items, limits: Limits = QUICK) -> list[Row]:
    rows: list[Row] = []
    encoder = Encoder("embed_text", BUNDLE, WIDTH, 64, fake.send)
    asyncio.run(embed_all(encoder, items, rows.extend, limits))
    return rows


def texts(count: int) -> list[Item]:
    rng = random.Random(1)
    return [Item(i, f"text {i}", rng.choice([8, 16, 32, 64])) for i in range(count)]


def test_rows_come_in_the_items_order_each_with_its_own_vector():
    fake, items = FakeEncoder(), texts(1_000)
    rows = embed(fake, items, Limits(window=100, batch=16, in_flight=8))
    assert [row.id for row in rows] == list(range(1_000))
    for item, row in zip(items, rows, strict=True):
        np.testing.assert_array_equal(row.embedding, looks(item.content.encode(), WIDTH))


def test_10_000_texts_go_in_full_calls_and_never_more_at_once_than_allowed():
    fake = FakeEncoder()
    assert len(embed(fake, texts(10_000), Limits(in_flight=3, batch=64))) == 10_000
    assert fake.most_at_once == 3
    assert max(map(len, fake.calls)) == 64
    assert len(fake.calls) < 2 * 10_000 / 64


def test_no_more_is_read_than_the_windows_that_are_open():
    fake, read = FakeEncoder(), 0
    ahead: list[int] = []
    encoder = Encoder("embed_text", BUNDLE, WIDTH, 64, fake.send)

    def source():
        nonlocal read
        for item in texts(2_000):
            read += 1
            yield item

    written = 0

    def write(rows):
        nonlocal written
        ahead.append(read - written)
        written += len(rows)

    asyncio.run(embed_all(encoder, source(), write, Limits(window=100)))
    assert written == 2_000
    assert max(ahead) <= 300


def test_nothing_to_embed_calls_nobody():
    fake = FakeEncoder()
    assert embed(fake, []) == []
    assert embed(fake, [Item(1, "", error=EMPTY_LINE)])[0].error == EMPTY_LINE
    assert fake.calls == []


def test_only_the_bad_items_of_a_batch_fail_and_each_says_why():
    fake = FakeEncoder()
    items = [Item(i, f"bad {i}" if i in {3, 40} else f"text {i}") for i in range(64)]
    rows = embed(fake, items, Limits(batch=64))
    failed = [row for row in rows if row.error]
    assert [row.id for row in failed] == [3, 40]
    assert [row.error for row in failed] == [f"bad {i} is not an image" for i in (3, 40)]
    assert all(np.isnan(row.embedding).all() for row in failed)
    assert all(np.isfinite(row.embedding).all() for row in rows if not row.error)
    assert len(fake.calls) <= 1 + 2 * 2 * 6  # two searches by halves among 64


def test_a_refused_item_is_asked_for_once_alone_and_not_again():
    fake = FakeEncoder()
    embed(fake, [Item(1, "bad")])
    assert fake.calls == [["bad"]]


@pytest.mark.parametrize(
    "failure",
    [Unavailable("triton", "gone"), DeadlineExceeded("triton", "late"), Overloaded("full")],
)
def test_a_server_that_cannot_answer_now_is_asked_again(failure):
    fake = FakeEncoder(failure, failure)
    (row,) = embed(fake, [Item(1, "text")])
    assert row.error == ""
    assert len(fake.calls) == 3


def test_a_model_that_fails_on_an_item_is_not_asked_again_and_ends_nothing():
    failed = ModelFailed("triton", "a model failed on this input: NaN")
    fake = FakeEncoder(failed, failed, failed)  # both, then each alone
    rows = embed(fake, [Item(1, "one"), Item(2, "two")])
    assert [row.error for row in rows] == [failed.message] * 2
    assert [len(call) for call in fake.calls] == [2, 1, 1]


def test_a_server_that_stays_away_ends_the_job_with_its_own_error():
    fake = FakeEncoder(error=Unavailable("triton", "gone"))
    with pytest.raises(Unavailable, match="gone"):
        embed(fake, texts(100), Limits(tries=3, back_off_s=0.001, batch=50))
    assert len(fake.calls) <= 3 * 8  # at most all batches of the window, three times each


def test_a_bug_is_not_taken_for_a_bad_item():
    with pytest.raises(ZeroDivisionError):
        embed(FakeEncoder(error=ZeroDivisionError()), texts(3))


def test_waits_double_up_to_a_limit_with_some_at_random():
    waits = list(back_off(tries=8, first_s=0.2))
    assert len(waits) == 7
    for number, wait_s in enumerate(waits):
        least = min(5.0, 0.2 * 2**number)
        assert least <= wait_s <= 1.5 * least
    assert list(back_off(tries=1, first_s=0.2)) == []


def test_batches_hold_items_of_one_padded_size_within_the_bytes_of_a_call():
    items = [*texts(200), Item(200, "", error="no"), Item(201, "huge", 10_000)]
    batches = plan_batches(items, most=16, call_bytes=320)
    placed = sorted(place for batch in batches for place in batch)
    assert placed == [place for place in range(202) if place != 200]
    for batch in batches:
        (padded,) = {items[place].padded for place in batch}
        assert len(batch) <= 16
        assert len(batch) == 1 or len(batch) * padded <= 320


def test_padded_sizes_are_those_of_the_contract():
    assert padded_tokens("bread") == 8
    assert padded_tokens("how bread is baked at home, slowly") == 16
    assert padded_tokens("word " * 5_000) == 256
    assert [padded_bytes(size) for size in (1, 1_000, 1_024, 1_025)] == [1, 1_024, 1_024, 2_048]


def lines(tmp_path: Path, data: bytes) -> list[Item]:
    path = tmp_path / "texts.txt"
    path.write_bytes(data)
    items = list(read_lines(path))
    assert count_lines(path) == len(items)
    return items


def test_lines_are_texts_numbered_from_one_without_marks_and_line_ends(tmp_path):
    items = lines(tmp_path, b"\xef\xbb\xbfone\r\ntwo\n\xc3\xa9t\xc3\xa9\n")
    assert [(i.id, i.content, i.error) for i in items] == [
        (1, "one", ""),
        (2, "two", ""),
        (3, "été", ""),
    ]


def test_only_line_feeds_end_a_line(tmp_path):
    (item,) = lines(tmp_path, "one\u2028still\x0bone".encode())
    assert item.content == "one\u2028still\x0bone"


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_the_last_line_needs_no_end(tmp_path, end):
    assert [item.content for item in lines(tmp_path, b"one\ntwo" + end)] == ["one", "two"]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"", EMPTY_LINE),
        (b" \t\r", EMPTY_LINE),
        (b"x" * 8_193, "8,193 bytes; at most 8,192"),
        (b"x" * 100_000, "100,000 bytes; at most 8,192"),
        (b"x" * 3_000_000, "3,000,000 bytes; at most 8,192"),
        (b"caf\xe9 au lait", r"not UTF-8 \(byte 4 of it\)"),
    ],
)
def test_a_line_that_cannot_be_used_is_told_by_its_number_and_the_others_stay(
    tmp_path, line, error
):
    first, bad, last = lines(tmp_path, b"first\n" + line + b"\nlast\n")
    assert (first.content, last.content) == ("first", "last")
    assert bad.id == 2
    assert re.search(error, bad.error)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_the_longest_text_is_taken(tmp_path, end):
    (item,) = lines(tmp_path, b"x" * 8_192 + end)
    assert item.error == ""
    assert len(item.content) == 8_192


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "is empty"), ("one".encode("utf-16"), "UTF-16")],
)
def test_a_file_without_texts_is_refused_whole(tmp_path, data, message):
    path = tmp_path / "texts.txt"
    path.write_bytes(data)
    with pytest.raises(InvalidRequest, match=message):
        count_lines(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidRequest, match="No such file"):
        count_lines(tmp_path / "nothing.txt")


def test_a_folder_is_walked_by_name_and_only_images_are_taken(tmp_path):
    for name in ("b.PNG", "a/2.jpg", "a/1.webp", "notes.txt", "a/x.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1234567")
    items = list(read_images(tmp_path))
    assert [item.id for item in items] == ["b.PNG", "a/1.webp", "a/2.jpg"]
    assert {item.padded for item in items} == {8}
    assert count_images(tmp_path) == 3


def test_images_that_cannot_be_used_are_told_before_any_call(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(16 * 1024 * 1024 + 1)
    errors = {item.id: item.error for item in read_images(tmp_path)}
    assert "empty" in errors["empty.png"]
    assert "cannot be read" in errors["gone.jpg"]
    assert "16,777,217 bytes" in errors["huge.jpg"]
    assert "folder.png" not in errors


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(InvalidRequest, match="no image"):
        count_images(tmp_path)


def test_an_image_that_changed_since_it_was_listed_is_refused_alone(tmp_path):
    path = tmp_path / "image.png"
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_image(path)
    path.touch()
    with pytest.raises(InvalidRequest, match="empty"):
        read_image(path)
    with path.open("wb") as file:
        file.truncate(16 * 1024 * 1024 + 1)
    with pytest.raises(TooLarge):
        read_image(path)


def rows_of(count: int) -> list[Row]:
    nan = np.full(WIDTH, np.nan, np.float32)
    return [
        Row(i, nan, "is bad") if i % 7 == 3 else Row(i, looks(b"%d" % i, WIDTH))
        for i in range(count)
    ]


def test_npy_has_a_row_an_item_with_nan_where_it_failed(tmp_path):
    out, rows = tmp_path / "e.npy", rows_of(1_000)
    with open_output(out, WIDTH, "mini-1", numbered=True) as output:
        for start in range(0, 1_000, 300):
            output.write(rows[start : start + 300])
        assert not out.exists()
    array = np.load(out, mmap_mode="r")
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, np.stack([row.embedding for row in rows]))
    assert np.isnan(array[3]).all()
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("numbered", [True, False])
def test_parquet_has_ids_vectors_the_model_version_and_errors(tmp_path, numbered):
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra `parquet` is not installed")
    out, rows = tmp_path / "e.parquet", rows_of(100)
    if not numbered:
        rows = [Row(f"a/{row.id}.png", row.embedding, row.error) for row in rows]
    with open_output(out, WIDTH, "mini-1", numbered=numbered) as output:
        output.write(rows[:60])
        output.write(rows[60:])
    table = parquet.read_table(out)
    assert str(table.schema.field("embedding").type) == f"fixed_size_list<element: float>[{WIDTH}]"
    assert table.column("id").to_pylist() == [row.id for row in rows]
    assert set(table.column("model_version").to_pylist()) == {"mini-1"}
    assert table.column("error").to_pylist() == [row.error or None for row in rows]
    vectors = np.stack(table.column("embedding").to_numpy())
    np.testing.assert_array_equal(vectors, np.stack([row.embedding for row in rows]))


def test_parquet_without_pyarrow_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'pixserve\[parquet\]'"):
        check_output(tmp_path / "e.parquet")


@pytest.mark.parametrize("name", ["e.csv", "e", "folder.npy", "nowhere/e.npy"])
def test_an_output_that_cannot_be_written_is_refused_at_once(tmp_path, name):
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(InvalidRequest):
        check_output(tmp_path / name)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError, asyncio.CancelledError])
def test_an_interrupted_output_leaves_what_was_there_and_nothing_else(tmp_path, interruption):
    out = tmp_path / "e.npy"
    out.write_text("before")

    def interrupted() -> None:
        with open_output(out, WIDTH, "mini-1", numbered=True) as output:
            output.write(rows_of(10))
            raise interruption

    with pytest.raises(interruption):
        interrupted()
    assert out.read_text() == "before"
    assert list(tmp_path.iterdir()) == [out]


def test_a_full_disk_is_told_as_such(tmp_path):
    def fill() -> None:
        with open_output(tmp_path / "e.npy", WIDTH, "mini-1", numbered=True):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageFull, match="no room"):
        fill()
    assert list(tmp_path.iterdir()) == []


def run(*arguments: object) -> tuple[int, str]:
    """Run the command in this process: its exit code or error, and what it printed."""
    result = CliRunner().invoke(app, ["embed", *map(str, arguments)])
    error = result.exception.message if isinstance(result.exception, PixserveError) else ""
    return result.exit_code, error + result.output


def test_the_command_without_a_stack_says_what_to_do(tmp_path):
    (tmp_path / "texts.txt").write_text("one\n")
    code, said = run(
        tmp_path / "texts.txt", "--out", tmp_path / "e.npy", "--data-dir", tmp_path / "none"
    )
    assert code == 1
    assert "pixserve up" in said
    assert "--triton HOST:PORT" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["texts.txt", "--out", "e.csv"], ".npy or .parquet"),
        (["empty.txt", "--out", "e.npy"], "is empty"),
        (["nothing.txt", "--out", "e.npy"], "No such file"),
        (["images", "--out", "e.npy"], "no image"),
        (["images", "--out", "e.npy", "--encoder", "clip"], "one encoder"),
        (["texts.txt", "--out", "e.npy", "--role", "poet"], "poet"),
        (["texts.txt", "--out", "e.npy", "--in-flight", "0"], "in-flight"),
    ],
)
def test_the_command_refuses_before_it_calls_anyone(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_text("one\n")
    Path("empty.txt").touch()
    Path("images").mkdir()
    code, told = run(*arguments, "--triton", "127.0.0.1:1")
    assert code != 0
    assert said in told
    assert not Path("e.npy").exists()

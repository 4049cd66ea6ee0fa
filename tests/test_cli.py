import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.catalogue.catalogue import Catalogue
from gateway.client import Client
from gateway.commands.terminal import clock, shown
from tests.catalogues import findings
from tests.gateways import (
    NOWHERE,
    Gateway,
    add_searchable,
    gateway_settings,
    running_gateway,
)
from tests.media import make_text_file, make_video
from tests.waiting import until

PIXSERVE = Path(sys.executable).with_name("pixserve")


@pytest.fixture(scope="module")
def gateway(milvus_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = gateway_settings(
        tmp_path_factory.mktemp("cli"), milvus_uri, search_deadline_ms=5_000
    )
    with running_gateway(settings) as gateway:
        add_searchable(
            settings, "cli-bread", ["knead the sourdough"], title="[red]Bread\x1b[2J", pix=50
        )
        yield gateway


@pytest.fixture(scope="module")
def worker(gateway: Gateway) -> Iterator[None]:
    """Ends every ingest well, as a worker with all of its parts would."""
    catalogue, stop = Catalogue(gateway.settings.database_url), threading.Event()

    def work() -> None:
        while not stop.wait(0.02):
            job = catalogue.jobs.claim("test", lease_s=60)
            if job is None:
                continue
            if job.kind == "delete":
                catalogue.library.remove(job.video_id)
            else:
                catalogue.analyses.store(job.video_id, findings(job.video_id))
            catalogue.jobs.finish(job)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()
    catalogue.close()


def pixserve(gateway: Gateway | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    where = ["--url", gateway.url] if gateway else []
    return subprocess.run(
        [PIXSERVE, *arguments, *where],
        capture_output=True,
        text=True,
        timeout=60,
        env={"COLUMNS": "160", "PATH": "/usr/bin"},
        check=False,
    )


def test_a_search_prints_its_moments_and_how_their_scores_came_about(gateway: Gateway) -> None:
    done = pixserve(gateway, "search", "sourdough", "--explain")
    assert done.returncode == 0, done.stderr
    assert "[red]Bread" in done.stdout
    assert "\x1b" not in done.stdout
    assert "0:00.0–0:05.0" in done.stdout
    assert "keyword" in done.stdout
    assert "left out: " in done.stdout


def test_a_search_fits_a_terminal_of_80_columns(gateway: Gateway) -> None:
    lines = on_terminal(80, "search", "sourdough", "--url", gateway.url)
    assert any("0:00.0–0:05.0" in line for line in lines), lines
    assert max(map(len, lines)) <= 80
    assert "cli-bread" in "".join(lines)


def test_the_videos_take_a_line_each_on_a_terminal_of_80_columns(gateway: Gateway) -> None:
    long = "A title that is much longer than what is left of the line for it"
    add_searchable(gateway.settings, "cli-longtitle0000", ["x"], title=long, pix=5)
    lines = on_terminal(80, "videos", "--url", gateway.url)
    (row,) = [line for line in lines if "cli-longtitle0000" in line]
    assert row.split()[-1] == "5"
    assert long in pixserve(gateway, "videos").stdout


def test_an_interrupted_ingest_waits_for_nobody(gateway: Gateway, tmp_path: Path) -> None:
    video = make_video(tmp_path / "waiting.mp4")  # no worker takes its job
    command = [PIXSERVE, "ingest", str(video), "--creator", "patience", "--url", gateway.url]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_for_creator(gateway, "patience")
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "see pixserve videos" in told


def wait_for_creator(gateway: Gateway, creator: str) -> None:
    with Client(gateway.url) as client:
        until(lambda: creator in {video.creator_id for video in client.videos().videos})


def on_terminal(columns: int, *arguments: str) -> list[str]:
    """What a command prints on a terminal so wide, without colours."""
    ours, theirs = pty.openpty()
    environment = {"COLUMNS": str(columns), "PATH": "/usr/bin", "TERM": "dumb"}
    with subprocess.Popen([PIXSERVE, *arguments], stdout=theirs, env=environment) as process:
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):  # the terminal's end is an error on Linux
            while part := os.read(ours, 65_536):
                said += part
    os.close(ours)
    assert process.returncode == 0
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode()).splitlines()


def test_a_search_prints_json_for_programs(gateway: Gateway) -> None:
    done = pixserve(gateway, "search", "sourdough", "--json", "--limit", "1")
    assert [hit["video_id"] for hit in json.loads(done.stdout)["hits"]] == ["cli-bread"]


def test_a_search_without_results_says_so(gateway: Gateway) -> None:
    assert "Nothing matches." in pixserve(gateway, "search", "xylophone").stdout


@pytest.mark.usefixtures("worker")
def test_a_folder_is_ingested_with_its_sidecars_and_one_bad_file_stops_nothing(
    gateway: Gateway, tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    make_video(tmp_path / "sub" / "good.mp4")
    (tmp_path / "sub" / "good.srt").write_text("1\n00:00:00,000 --> 00:00:02,000\nhi\n")
    make_text_file(tmp_path / "bad.mp4")
    (tmp_path / "notes.txt").write_text("not a video")

    done = pixserve(gateway, "ingest", str(tmp_path), "--pix", "7", "--creator", "folder")

    assert done.returncode == 1
    assert "good.mp4" in done.stdout
    assert "bad.mp4" in done.stdout
    assert "failed" in done.stdout
    assert "notes.txt" not in done.stdout
    stored = list(gateway.settings.videos_dir.glob("*/transcript.srt"))
    assert len(stored) == 1

    again = pixserve(gateway, "ingest", str(tmp_path / "sub"), "--creator", "folder")
    assert again.returncode == 0, again.stdout
    assert "was there already" in again.stdout
    assert "no PIX was added" not in again.stdout
    more = pixserve(gateway, "ingest", str(tmp_path / "sub"), "--creator", "folder", "--pix", "9")
    assert "good.mp4: was there already; no PIX was added: pixserve invest " in more.stdout


@pytest.mark.usefixtures("worker")
def test_videos_are_listed_invested_in_and_deleted(gateway: Gateway) -> None:
    add_searchable(gateway.settings, "cli-doomed", ["x"], title="Doomed", pix=5)
    assert "Doomed" in pixserve(gateway, "videos").stdout

    invested = pixserve(gateway, "invest", "cli-doomed", "10", "--key", "k")
    assert "15 PIX (+10)" in invested.stdout
    again = pixserve(gateway, "invest", "cli-doomed", "10", "--key", "k")
    assert "15 PIX (was added before)" in again.stdout

    assert "is deleted" in pixserve(gateway, "delete", "cli-doomed").stdout
    gone = pixserve(gateway, "delete", "cli-doomed")
    assert (gone.returncode, gone.stderr) == (1, "pixserve: there is no video cli-doomed\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["search", "x", "--url", f"http://{NOWHERE}"], "start one with: pixserve up"),
        (["videos", "--url", f"http://{NOWHERE}"], "start one with: pixserve up"),
        (["videos", "--url", "foo"], "'foo' is no URL like http://"),
        (["search"], "give words, --image FILE, --audio FILE, --clip FILE or --like"),
        (["search", "--image", "/nothing.png"], "/nothing.png: No such file"),
        (["ingest", "/nothing.mp4"], "/nothing.mp4: there is no such file"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(arguments: list[str], told: str) -> None:
    done = pixserve(None, *arguments)
    assert done.returncode == 1
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("pixserve: ")


@pytest.mark.parametrize("command", ["ingest", "search", "videos", "invest", "delete"])
def test_help_has_an_example_and_is_quick(command: str) -> None:
    begin = time.monotonic()
    done = pixserve(None, command, "--help")
    assert time.monotonic() - begin < 2
    assert done.returncode == 0
    assert f"pixserve {command} " in done.stdout


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, gateway.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"sqlalchemy", "litestar", "pymilvus", "grpc", "numpy", "av", "torch", "httpx"}
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0:00.0"), (7, "0:07.0"), (59.96, "1:00.0"), (83.25, "1:23.2"), (3723.4, "1:02:03.4")],
)
def test_moments_read_as_a_player_shows_them(seconds: float, told: str) -> None:
    assert clock(seconds) == told


def test_a_strangers_text_cannot_steer_the_terminal() -> None:
    assert shown("a\x1b[31mb\r\n[bold]c").plain == "a [31mb  [bold]c"


# ---- jobs and manifests


@pytest.mark.usefixtures("worker")
def test_a_manifest_is_sent_row_by_row_and_its_jobs_are_listed_and_watched(
    gateway: Gateway, tmp_path: Path
) -> None:
    for number in range(2):
        make_video(tmp_path / f"{number}.mp4", duration_s=2 + number)
    rows = [{"path": f"{number}.mp4", "title": f"Row {number}", "pix": 3} for number in range(2)]
    manifest = tmp_path / "library.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)))

    sent = pixserve(gateway, "ingest", str(manifest), "--creator", "rows", "--priority", "5")
    assert sent.returncode == 0, sent.stderr

    with Client(gateway.url) as client:
        videos = [video for video in client.videos().videos if video.creator_id == "rows"]
        (job,) = client.jobs(video_id=videos[0].id)
    assert {(video.title, video.pix) for video in videos} == {("Row 0", 3), ("Row 1", 3)}
    listed = pixserve(gateway, "jobs", "--video", videos[0].id)
    assert job.id in listed.stdout
    assert "succeeded" in listed.stdout
    watched = pixserve(gateway, "watch", job.id)
    assert (watched.returncode, watched.stdout) == (0, "succeeded, 100 %, done\n")


def test_what_cannot_be_cancelled_or_watched_is_told_in_one_line(gateway: Gateway) -> None:
    for command in ("cancel", "watch"):
        told = pixserve(gateway, command, "nothing")
        assert told.returncode == 1
        assert told.stderr == "pixserve: there is no job nothing\n"


def test_bulk_without_a_stack_says_what_to_do(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", duration_s=2)
    told = pixserve(None, "ingest", str(tmp_path), "--workers", "1", "--data-dir", str(tmp_path))
    assert told.returncode == 1
    assert "pixserve up" in told.stderr
    both = pixserve(None, "ingest", str(tmp_path), "--workers", "1", "--priority", "5")
    assert both.returncode == 1
    assert "--priority" in both.stderr

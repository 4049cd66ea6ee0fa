"""Thumbnails, storyboards, files and the events of jobs, as the real gateway serves them."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from gateway.api import streams, watching
from gateway.api.streams import FileStreams
from gateway.api.watching import Watch
from gateway.catalogue.catalogue import Catalogue
from gateway.client import Client
from gateway.errors import Conflict, NotFound, Overloaded
from gateway.schemas import Job
from ingest.media import Keyframes
from ingest.thumbnails import THUMBNAILS_FILE, Thumbnails, write_thumbnails
from tests.catalogues import new_video
from tests.gateways import Gateway, add_searchable, gateway_settings, running_gateway
from tests.waiting import until

CONTENT = bytes(range(256)) * 4_000  # over one chunk of a stream
PICTURES = (b"RIFF\x04\x00\x00\x00WEBPone", b"RIFF\x04\x00\x00\x00WEBPtwo")


@pytest.fixture(scope="module")
def gateway(milvus_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = gateway_settings(tmp_path_factory.mktemp("media-routes"), milvus_uri)
    with running_gateway(settings) as gateway:
        add_searchable(settings, "film", ["one", "two"])
        folder = settings.videos_dir / "film"
        folder.mkdir(parents=True)
        (folder / "source.mp4").write_bytes(CONTENT)
        thumbnails = Thumbnails(Keyframes((0.0, 5.0), PICTURES, 320, 180), (0, 1))
        ids = ["film-000000000", "film-000005000"]
        write_thumbnails(folder / THUMBNAILS_FILE, thumbnails, ids)
        add_searchable(settings, "bare", ["nothing to see"])
        yield gateway


@pytest.fixture(scope="module")
def http(gateway: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, timeout=10) as client:
        yield client


@pytest.fixture(scope="module")
def catalogue(gateway: Gateway) -> Iterator[Catalogue]:
    catalogue = Catalogue(gateway.settings.database_url)
    yield catalogue
    catalogue.close()


# ---- thumbnails and storyboards


def test_a_thumbnail_may_be_kept_for_ever(http: httpx.Client) -> None:
    path = "/v1/videos/film/thumbnails/film-000005000.webp"
    reply = http.get(path)
    assert (reply.status_code, reply.content) == (200, PICTURES[1])
    assert reply.headers["content-type"] == "image/webp"
    assert "immutable" in reply.headers["cache-control"]
    assert reply.headers["x-content-type-options"] == "nosniff"

    known = http.get(path, headers={"If-None-Match": reply.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    assert known.headers["etag"] == reply.headers["etag"]
    assert http.get(path, headers={"If-None-Match": '"another"'}).status_code == 200


def test_a_storyboard_names_the_picture_of_each_segment(http: httpx.Client) -> None:
    reply = http.get("/v1/videos/film/storyboard")
    board = reply.json()
    assert reply.headers["content-type"] == "application/json"
    assert (board["video_id"], board["width"], board["height"]) == ("film", 320, 180)
    assert [(t["start_s"], t["end_s"]) for t in board["thumbnails"]] == [(0.0, 5.0), (5.0, 10.0)]
    for thumbnail, picture in zip(board["thumbnails"], PICTURES, strict=True):
        assert http.get(thumbnail["url"]).content == picture
    again = http.get("/v1/videos/film/storyboard", headers={"If-None-Match": reply.headers["etag"]})
    assert again.status_code == 304


def test_a_video_without_pictures_has_an_empty_storyboard(http: httpx.Client) -> None:
    board = http.get("/v1/videos/bare/storyboard").json()
    assert (board["thumbnails"], board["width"]) == ([], 0)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/videos/film/thumbnails/film-000000001.webp", 404),
        ("/v1/videos/bare/thumbnails/bare-000000000.webp", 404),
        ("/v1/videos/nothing/thumbnails/film-000000000.webp", 404),
        ("/v1/videos/film/thumbnails/film-000000000.png", 400),
        ("/v1/videos/film/thumbnails/film-000000000", 400),
        ("/v1/videos/film/thumbnails/.webp", 400),
        ("/v1/videos/film/thumbnails/..%2f..%2fcatalogue.db.webp", 404),
        ("/v1/videos/film/thumbnails/%00.webp", 400),
        ("/v1/videos/..%2f..%2fuploads/storyboard", 404),
        ("/v1/videos/..%5c..%5c/file", 400),
        ("/v1/videos/nothing/storyboard", 404),
        ("/v1/videos/nothing/file", 404),
        ("/v1/videos/bare/file", 404),
    ],
)
def test_what_is_not_there_is_refused(http: httpx.Client, path: str, status: int) -> None:
    reply = http.get(path)
    assert reply.status_code == status, reply.text
    assert reply.json()["message"]


# ---- files


def test_a_file_comes_whole(http: httpx.Client) -> None:
    reply = http.get("/v1/videos/film/file")
    assert (reply.status_code, reply.content) == (200, CONTENT)
    assert reply.headers["content-type"] == "video/mp4"
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["content-length"] == str(len(CONTENT))
    assert "sandbox" in reply.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("asked", "begin", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=300000-700000", 300_000, 700_001),
        ("bytes=1000000-", 1_000_000, len(CONTENT)),
        ("bytes=-10", len(CONTENT) - 10, len(CONTENT)),
    ],
)
def test_a_part_of_a_file_comes_by_its_range(
    http: httpx.Client, asked: str, begin: int, end: int
) -> None:
    reply = http.get("/v1/videos/film/file", headers={"Range": asked})
    assert (reply.status_code, reply.content) == (206, CONTENT[begin:end])
    assert reply.headers["content-range"] == f"bytes {begin}-{end - 1}/{len(CONTENT)}"
    assert reply.headers["content-length"] == str(end - begin)


@pytest.mark.parametrize("asked", ["bytes=5-1", "bytes=0-1,5-9", "lines=1-2", "bytes=x-"])
def test_a_range_that_is_none_means_the_whole_file(http: httpx.Client, asked: str) -> None:
    reply = http.get("/v1/videos/film/file", headers={"Range": asked})
    assert (reply.status_code, len(reply.content)) == (200, len(CONTENT))


def test_a_range_behind_the_end_is_told_the_length(http: httpx.Client) -> None:
    reply = http.get("/v1/videos/film/file", headers={"Range": f"bytes={len(CONTENT)}-"})
    assert reply.status_code == 416
    assert reply.headers["content-range"] == f"bytes */{len(CONTENT)}"
    assert reply.json()["error"] == "range_not_satisfiable"


def test_a_range_of_another_version_gets_the_whole_file(http: httpx.Client) -> None:
    etag = http.head("/v1/videos/film/file").headers["etag"]
    for tag, status in ((etag, 206), ('"another"', 200)):
        headers = {"Range": "bytes=0-9", "If-Range": tag}
        assert http.get("/v1/videos/film/file", headers=headers).status_code == status
    known = http.get("/v1/videos/film/file", headers={"If-None-Match": etag})
    assert (known.status_code, known.content) == (304, b"")


def test_the_head_of_a_file_has_its_length_and_no_body(http: httpx.Client) -> None:
    reply = http.head("/v1/videos/film/file")
    assert (reply.status_code, reply.content) == (200, b"")
    assert reply.headers["content-length"] == str(len(CONTENT))
    part = http.head("/v1/videos/film/file", headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.headers["content-length"]) == (206, "10")
    assert http.get("/health/live").status_code == 200  # the connection is still in step


def test_readers_that_go_away_leave_no_file_open(gateway: Gateway, http: httpx.Client) -> None:
    def open_files() -> int:
        links = Path(f"/proc/{gateway.process.pid}/fd").iterdir()
        return sum("source.mp4" in str(link.resolve()) for link in links if link.exists())

    for _ in range(5):
        with http.stream("GET", "/v1/videos/film/file") as reply:
            next(reply.iter_raw(1_000))
    until(lambda: open_files() == 0)


def test_a_deleted_videos_file_is_not_served(gateway: Gateway, http: httpx.Client) -> None:
    add_searchable(gateway.settings, "going", ["x"])
    folder = gateway.settings.videos_dir / "going"
    folder.mkdir()
    (folder / "source.mp4").write_bytes(b"x")
    assert http.get("/v1/videos/going/file").status_code == 200
    http.delete("/v1/videos/going")
    for path in ("file", "storyboard", "thumbnails/going-000000000.webp"):
        assert http.get(f"/v1/videos/going/{path}").status_code == 404


def test_only_so_many_files_are_sent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_FILE_STREAMS", 0)
    with pytest.raises(Overloaded, match="retry later"):
        FileStreams().require_place()


# ---- jobs


@pytest.fixture
def job(catalogue: Catalogue, request: pytest.FixtureRequest) -> Iterator[str]:
    """A job that waits, and that is out of the way afterwards."""
    forget_jobs(catalogue)
    video_id = f"job-{abs(hash(request.node.name))}"
    accepted = catalogue.library.add(new_video(video_id))
    yield accepted.job_id
    catalogue.library.remove(video_id)
    forget_jobs(catalogue)


def forget_jobs(catalogue: Catalogue) -> None:
    with catalogue._database.write() as connection:
        connection.exec_driver_sql("delete from jobs where state in ('queued', 'running')")


def test_jobs_are_listed_by_state_and_video(http: httpx.Client, job: str) -> None:
    (found,) = http.get("/v1/jobs", params={"state": "queued"}).json()["jobs"]
    assert (found["id"], found["priority"]) == (job, 0)
    by_video = http.get("/v1/jobs", params={"video_id": found["video_id"]}).json()["jobs"]
    assert by_video == [found]


def test_a_jobs_priority_is_changed(http: httpx.Client, job: str) -> None:
    reply = http.patch(f"/v1/jobs/{job}", json={"priority": 7})
    assert (reply.status_code, reply.json()["priority"]) == (200, 7)


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/v1/jobs?state=asleep", {}, 400),
        ("GET", "/v1/jobs?limit=0", {}, 400),
        ("GET", "/v1/jobs?limit=101", {}, 400),
        ("GET", "/v1/jobs?video_id=../x", {}, 400),
        ("GET", "/v1/jobs?colour=red", {}, 400),
        ("GET", "/v1/jobs/nothing", {}, 404),
        ("GET", "/v1/jobs/nothing/events", {}, 404),
        ("GET", "/v1/jobs/a.b/events", {}, 400),
        ("POST", "/v1/jobs/nothing/cancel", {}, 404),
        ("POST", "/v1/jobs/a.b/cancel", {}, 400),
        ("PATCH", "/v1/jobs/nothing", {"json": {"priority": 1}}, 404),
        ("PATCH", "/v1/jobs/nothing", {"json": {}}, 400),
        ("PATCH", "/v1/jobs/nothing", {"json": {"priority": 101}}, 400),
        ("PATCH", "/v1/jobs/nothing", {"json": {"priority": "1"}}, 400),
        ("PATCH", "/v1/jobs/nothing", {"json": {"priority": 1.5}}, 400),
        ("PATCH", "/v1/jobs/nothing", {"json": {"priority": 1, "state": "x"}}, 400),
        ("PATCH", "/v1/jobs/nothing", {"content": b"\xff"}, 400),
    ],
)
def test_a_wrong_request_about_jobs_is_refused(
    http: httpx.Client, method: str, path: str, options: dict[str, object], status: int
) -> None:
    reply = http.request(method, path, **options)  # type: ignore[arg-type]
    assert reply.status_code == status, reply.text
    assert reply.json()["message"]


def test_the_client_cancels_ranks_and_lists_jobs(gateway: Gateway, job: str) -> None:
    with Client(gateway.url) as client:
        assert client.set_priority(job, 3).priority == 3
        assert [found.id for found in client.jobs("queued")] == [job]
        assert client.cancel_job(job).state == "queued"  # until a worker has cleared it away
        with pytest.raises(NotFound):
            client.cancel_job("nothing")


def test_a_deletion_is_not_cancelled(gateway: Gateway) -> None:
    add_searchable(gateway.settings, "doomed", ["x"])
    with Client(gateway.url) as client, pytest.raises(Conflict, match="cannot be cancelled"):
        client.cancel_job(client.delete_video("doomed").id)


def test_the_client_reads_pictures_and_files(gateway: Gateway) -> None:
    with Client(gateway.url) as client:
        board = client.storyboard("film")
        segment = board.thumbnails[0].segment_id
        assert client.thumbnail("film", segment) == PICTURES[0]
        assert b"".join(client.file("film")) == CONTENT
        assert b"".join(client.file("film", start=1_000_000)) == CONTENT[1_000_000:]
        with pytest.raises(NotFound):
            client.thumbnail("film", "film-1")
        with pytest.raises(NotFound):
            list(client.file("nothing"))


# ---- events


def test_a_job_is_followed_to_its_end(gateway: Gateway, catalogue: Catalogue, job: str) -> None:
    told: list[Job] = []

    def follow() -> None:
        with Client(gateway.url) as client:
            told.extend(client.job_events(job))

    listener = threading.Thread(target=follow)
    listener.start()
    claimed = catalogue.jobs.claim_job(job, "test", lease_s=60)
    assert claimed is not None
    catalogue.jobs.extend(claimed, lease_s=60, stage="embed", percent=40)
    time.sleep(0.6)  # more than one look
    catalogue.jobs.finish(claimed)
    listener.join(10)

    assert not listener.is_alive()
    assert (told[-1].state, told[-1].percent) == ("succeeded", 100)
    assert [state.percent for state in told] == sorted(state.percent for state in told)
    assert len(told) == len({msgspec.json.encode(state) for state in told})


def test_events_have_the_format_of_the_standard(
    gateway: Gateway, catalogue: Catalogue, job: str
) -> None:
    claimed = catalogue.jobs.claim_job(job, "test", lease_s=60)
    assert claimed is not None
    catalogue.jobs.finish(claimed)
    reply = httpx.get(f"{gateway.url}/v1/jobs/{job}/events", timeout=5)

    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["cache-control"] == "no-store"
    retry, event, end = reply.text.split("\n\n")
    assert (retry, end) == ("retry: 2000", "")
    name, data = event.split("\n")
    assert name == "event: job"
    assert json.loads(data.removeprefix("data: "))["state"] == "succeeded"


def test_many_listen_to_one_job_and_all_learn_its_end(
    gateway: Gateway, catalogue: Catalogue, job: str
) -> None:
    def last_state(_: int) -> str:
        with Client(gateway.url) as client:
            return [told.state for told in client.job_events(job)][-1]

    with ThreadPoolExecutor(20) as pool:
        ends = [pool.submit(last_state, number) for number in range(20)]
        claimed = catalogue.jobs.claim_job(job, "test", lease_s=60)
        assert claimed is not None
        catalogue.jobs.fail(claimed, "not_media: no")
        assert {end.result(10) for end in ends} == {"failed"}


def test_a_listener_that_goes_away_is_forgotten(gateway: Gateway, job: str) -> None:
    address = ("127.0.0.1", gateway.settings.port)
    for _ in range(watching.MAX_LISTENERS // 64):
        with connections(address, job, 64):
            pass

    def are_places_free() -> bool:
        with connections(address, job, 64) as replies:
            return all(b"200 OK" in reply for reply in replies)

    until(are_places_free)  # for as many as before


@contextmanager
def connections(address: tuple[str, int], job: str, count: int) -> Iterator[list[bytes]]:
    request = f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    opened = [socket.create_connection(address, timeout=5) for _ in range(count)]
    for one in opened:
        one.sendall(request)
    yield [one.recv(1_000) for one in opened]
    for one in opened:
        one.close()


# ---- the watch itself


class Doors:
    """What a watch asks: a catalogue that counts the looks, and threads that are none."""

    def __init__(self) -> None:
        self.looks: list[set[str]] = []
        self.jobs: dict[str, Job] = {}
        self.catalogue = self.control = self.threads = self

    def many(self, ids: set[str]) -> dict[str, Job]:
        self.looks.append(ids)
        return self.jobs

    async def call(self, function: object, *given: object) -> object:
        return function(*given)  # type: ignore[operator]


def a_job(**changes: object) -> Job:
    given = {
        "id": "j",
        "video_id": "v",
        "kind": "ingest",
        "state": "running",
        "stage": "embed",
        "percent": 10,
        "error": None,
        "attempts": 1,
        "created_at": "",
        "updated_at": "",
    }
    return Job(**(given | changes))  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_a_silent_job_gets_signs_of_life_and_one_look_serves_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watching, "HEARTBEAT_S", 0.02)
    monkeypatch.setattr(watching, "LOOK_S", 0.05)
    doors = Doors()
    watch = Watch(doors)  # type: ignore[arg-type]
    first, second = watch.states(a_job()), watch.states(a_job(id="k"))
    assert (await anext(first), await anext(second)) == (a_job(), a_job(id="k"))
    assert await anext(first) is None
    doors.jobs = {"j": a_job(state="succeeded")}

    states = [state async for state in first if state is not None]
    assert states == [a_job(state="succeeded")]
    assert all(ids == {"j", "k"} for ids in doors.looks)
    await second.aclose()  # type: ignore[attr-defined]
    await watch.close()


@pytest.mark.anyio
async def test_listeners_are_bounded_and_let_go_of_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_LISTENERS", 1)
    monkeypatch.setattr(watching, "LISTEN_S", 0.0)
    watch = Watch(Doors())  # type: ignore[arg-type]
    states = watch.states(a_job())
    watch.require_place()
    assert await anext(states) == a_job()
    with pytest.raises(Overloaded, match="ask for the job"):
        watch.require_place()
    assert [state async for state in states] == []
    watch.require_place()
    await watch.close()

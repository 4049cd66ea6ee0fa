import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api import uploads as module
from gateway.api.uploads import Uploads, video_id
from gateway.catalogue.catalogue import Catalogue
from gateway.catalogue.library import NewVideo
from gateway.errors import Conflict, InvalidRequest, MediaRefused, StorageFull, TooLarge
from gateway.schemas import Accepted, VideoMetadata
from gateway.threads import Threads
from tests.catalogues import new_video
from tests.gateways import NOWHERE, Gateway, gateway_settings, running_gateway
from tests.media import (
    image_bytes,
    make_empty_file,
    make_silent_video,
    make_sound,
    make_text_file,
    make_truncated_video,
)
from tests.waiting import until

MAX_UPLOAD_BYTES = 3 * 1024**2
SRT = b"1\n00:00:00,000 --> 00:00:02,000\nknead the dough\n"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = gateway_settings(
        tmp_path_factory.mktemp("uploads"),
        f"http://{NOWHERE}",
        max_upload_bytes=MAX_UPLOAD_BYTES,
    )
    with running_gateway(settings) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def http(gateway: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, timeout=30) as client:
        yield client


def upload(
    http: httpx.Client,
    path: Path,
    *,
    name: str = "video.mp4",
    transcript: tuple[str, bytes] | None = None,
    **metadata: Any,
) -> httpx.Response:
    files: dict[str, Any] = {"metadata": (None, json.dumps(metadata))}
    if transcript is not None:
        files["transcript"] = transcript
    with path.open("rb") as file:
        return http.post("/v1/videos", files=files | {"file": (name, file)})


@pytest.fixture
def nothing_left(gateway: Gateway) -> Iterator[None]:
    """What is refused leaves nothing behind."""
    _, before = gateway.folders()
    yield
    assert gateway.folders() == (set(), before)


# ---- what is accepted


def test_an_upload_is_stored_probed_and_queued(
    http: httpx.Client, gateway: Gateway, video: Path
) -> None:
    reply = upload(http, video, creator_id="anna", title="Bread", pix=7, tags=["a", "b"])

    told = reply.json()
    assert reply.status_code == 202, told
    digest = hashlib.sha256(video.read_bytes()).hexdigest()
    assert told["video_id"] == video_id("anna", digest)
    assert told["existing"] is False
    stored = gateway.settings.videos_dir / told["video_id"] / "source.mp4"
    assert stored.read_bytes() == video.read_bytes()
    described = http.get(f"/v1/videos/{told['video_id']}").json()
    assert (described["title"], described["pix"], described["tags"]) == ("Bread", 7, ["a", "b"])
    assert described["duration_s"] == pytest.approx(6, abs=0.2)
    assert described["width"] > 0
    assert described["audio"]["state"] == "pending"
    job = http.get(f"/v1/jobs/{told['job_id']}").json()
    assert (job["kind"], job["state"], job["video_id"]) == ("ingest", "queued", told["video_id"])
    assert gateway.folders()[0] == set()


def test_the_same_upload_again_is_one_video_and_one_job(http: httpx.Client, video: Path) -> None:
    first = upload(http, video, creator_id="ben", pix=3).json()
    again = upload(http, video, creator_id="ben", pix=9)

    assert again.status_code == 202
    assert again.json() == {**first, "existing": True}
    assert http.get(f"/v1/videos/{first['video_id']}").json()["pix"] == 3


def test_another_creators_copy_is_a_video_of_its_own(http: httpx.Client, video: Path) -> None:
    one = upload(http, video, creator_id="one").json()
    two = upload(http, video, creator_id="two").json()
    assert one["video_id"] != two["video_id"]


def test_uploads_of_one_video_at_once_are_one_video(http: httpx.Client, video: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: upload(http, video, creator_id="many"), range(8)))

    assert {reply.status_code for reply in replies} == {202}
    assert len({reply.json()["job_id"] for reply in replies}) == 1
    assert sum(not reply.json()["existing"] for reply in replies) == 1


def test_a_transcript_is_kept_beside_the_video(
    http: httpx.Client, gateway: Gateway, video: Path
) -> None:
    told = upload(http, video, transcript=("en.SRT", SRT), creator_id="scribe").json()
    folder = gateway.settings.videos_dir / told["video_id"]
    assert {path.name for path in folder.iterdir()} == {"source.mp4", "transcript.srt"}


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/passwd", "..\\..\\x.mp4", "a\0b.mp4", "x" * 300 + ".mp4", ""]
)
def test_of_a_hostile_file_name_nothing_but_the_suffix_is_used(
    http: httpx.Client, gateway: Gateway, video: Path, name: str
) -> None:
    reply = upload(http, video, name=name or " ", creator_id="hostile")
    assert reply.status_code == 202, reply.json()
    folder = gateway.settings.videos_dir / reply.json()["video_id"]
    assert {path.name for path in folder.iterdir()} <= {"source.mp4", "source.bin"}
    assert not list(gateway.settings.data_path.parent.glob("x*"))


def test_sound_alone_and_pictures_alone_are_accepted(http: httpx.Client, tmp_path: Path) -> None:
    sound = upload(http, make_sound(tmp_path / "a.m4a"), name="a.m4a").json()
    silent = upload(http, make_silent_video(tmp_path / "b.mp4")).json()

    told = http.get(f"/v1/videos/{sound['video_id']}").json()
    assert (told["visual"]["state"], told["audio"]["state"]) == ("absent", "pending")
    assert told["width"] is None
    told = http.get(f"/v1/videos/{silent['video_id']}").json()
    assert (told["visual"]["state"], told["audio"]["state"]) == ("pending", "absent")


def test_metadata_may_be_left_out(http: httpx.Client, video: Path) -> None:
    with video.open("rb") as file:
        reply = http.post("/v1/videos", files={"file": ("v.mp4", file)})
    assert reply.status_code == 202
    told = http.get(f"/v1/videos/{reply.json()['video_id']}").json()
    assert told["creator_id"] == "anonymous"


# ---- what is refused


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    ("make", "reasons"),
    [
        (make_text_file, {"not_media"}),
        (make_empty_file, {"empty"}),
        (lambda path: make_truncated_video(path), {"truncated", "not_media", "undecodable"}),
        (lambda path: path.write_bytes(image_bytes("png")) and path, {"not_media", "no_streams"}),
    ],
    ids=["text", "empty", "truncated", "picture"],
)
def test_a_file_that_is_no_video_is_refused_with_the_reason(
    http: httpx.Client, tmp_path: Path, make: Any, reasons: set[str]
) -> None:
    reply = upload(http, make(tmp_path / "claims-to-be.mp4"), creator_id="refused")

    told = reply.json()
    assert reply.status_code == 422, told
    assert told["error"] == "media_refused"
    assert told["reason"] in reasons
    videos = http.get("/v1/videos", params={"limit": 100}).json()["videos"]
    assert "refused" not in {video["creator_id"] for video in videos}


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        (b"{", "metadata"),
        (b"[]", "metadata"),
        (b'{"pix": -1}', "pix"),
        (b'{"pix": "7"}', "pix"),
        (b'{"pix": 1e400}', "metadata"),
        (b'{"creator_id": "../x"}', "creator_id"),
        (b'{"creator_id": "x\\n"}', "creator_id"),
        (b'{"title": 5}', "title"),
        (b'{"tags": [""]}', "tags"),
        (b'{"language": "english!"}', "language"),
        (b'{"colour": "red"}', "colour"),
        (b"\xff\xff", "metadata"),
    ],
)
def test_broken_metadata_is_refused_and_its_field_named(
    http: httpx.Client, video: Path, metadata: bytes, told: str
) -> None:
    with video.open("rb") as file:
        reply = http.post(
            "/v1/videos", files={"metadata": (None, metadata), "file": ("v.mp4", file)}
        )
    assert reply.status_code == 400, reply.json()
    assert told in reply.json()["message"]


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    "transcript",
    [b"", b"not a transcript", b"1\n00:00:00,000 -> 00:00:02,000\nx\n", bytes(range(256)) * 10],
)
def test_a_broken_transcript_is_refused(http: httpx.Client, video: Path, transcript: bytes) -> None:
    reply = upload(http, video, transcript=("a.srt", transcript), creator_id="mumbler")
    assert reply.status_code in (400, 422), reply.json()
    assert "transcript" in reply.json()["message"] or "line" in reply.json()["message"]


@pytest.mark.usefixtures("nothing_left")
def test_a_transcript_over_its_limit_is_refused(http: httpx.Client, video: Path) -> None:
    reply = upload(http, video, transcript=("a.srt", b"x" * (5 * 1024**2 + 1)))
    assert reply.status_code == 413
    assert "transcript" in reply.json()["message"]


@pytest.mark.usefixtures("nothing_left")
def test_a_file_over_its_limit_is_refused_while_it_comes(
    http: httpx.Client, gateway: Gateway, tmp_path: Path
) -> None:
    path = tmp_path / "large.mp4"
    path.write_bytes(bytes(MAX_UPLOAD_BYTES + 1))
    assert upload(http, path).status_code == 413

    def endless() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
        for _ in range(20):
            yield bytes(1024**2)

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    reply = httpx.post(f"{gateway.url}/v1/videos", content=endless(), headers=headers)
    assert reply.status_code == 413
    assert f"{MAX_UPLOAD_BYTES:,}" in reply.json()["message"]


@pytest.mark.usefixtures("nothing_left")
def test_a_body_that_announces_too_much_is_refused_at_once(gateway: Gateway) -> None:
    with connection(gateway, content_length=10**12) as raw:
        assert b"413" in raw.recv(200)


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("sent", [0, 1_000, 2_000_000])
def test_a_connection_that_is_cut_off_leaves_nothing(gateway: Gateway, sent: int) -> None:
    with connection(gateway, content_length=2_500_000) as raw:
        raw.sendall(b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n')
        raw.sendall(bytes(sent))
        until(lambda: bool(gateway.folders()[0]))
    until(lambda: not gateway.folders()[0])


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    "options",
    [
        {"json": {"file": "x"}},
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        {"files": {"film": ("v.mp4", b"x")}},
        {"files": [("file", ("v.mp4", b"x")), ("file", ("v.mp4", b"x"))]},
    ],
)
def test_a_body_that_is_no_upload_is_refused(http: httpx.Client, options: dict[str, Any]) -> None:
    reply = http.post("/v1/videos", **options)
    assert reply.status_code == 400, reply.json()


def test_a_form_without_a_file_is_refused(http: httpx.Client) -> None:
    reply = http.post("/v1/videos", files={"metadata": (None, "{}")})
    assert reply.status_code == 422
    assert reply.json()["reason"] == "empty"


# ---- videos, PIX, jobs


@pytest.fixture
def uploaded(http: httpx.Client, video: Path, request: pytest.FixtureRequest) -> str:
    creator = hashlib.sha256(request.node.name.encode()).hexdigest()[:16]
    told: str = upload(http, video, creator_id=creator, title="old", pix=5).json()["video_id"]
    return told


def test_a_patch_changes_metadata_but_never_pix(http: httpx.Client, uploaded: str) -> None:
    path = f"/v1/videos/{uploaded}"
    reply = http.patch(path, json={"title": "new", "category": "food"})
    assert (reply.status_code, reply.json()["title"]) == (200, "new")

    for body in ({"pix": 9}, {"title": 9}, {"state": "ready"}, {"tags": "x"}):
        refused = http.patch(path, json=body)
        assert refused.status_code == 400
        assert next(iter(body)) in refused.json()["message"]
    assert http.get(path).json()["pix"] == 5


def test_an_investment_counts_once_for_each_key(http: httpx.Client, uploaded: str) -> None:
    path = f"/v1/videos/{uploaded}/investments"
    first = http.post(path, json={"pix": 10, "key": "k"})
    again = http.post(path, json={"pix": 10, "key": "k"})
    other = http.post(path, json={"pix": 11, "key": "k"})

    assert first.status_code == again.status_code == 201
    assert (first.json()["total_pix"], first.json()["repeated"]) == (15, False)
    assert (again.json()["total_pix"], again.json()["repeated"]) == (15, True)
    assert (other.status_code, other.json()["error"]) == (409, "conflict")


@pytest.mark.parametrize(
    "body",
    [
        {"pix": -1, "key": "k"},
        {"pix": 0, "key": "k"},
        {"pix": "ten", "key": "k"},
        {"pix": "10", "key": "k"},
        {"pix": 1.5, "key": "k"},
        {"pix": None, "key": "k"},
        {"pix": 10**30, "key": "k"},
        {"pix": 1},
        {"pix": 1, "key": ""},
        {"pix": 1, "key": "a b"},
        {"pix": 1, "key": "upload:pix"},
    ],
)
def test_a_wrong_investment_is_refused_and_adds_nothing(
    http: httpx.Client, uploaded: str, body: dict[str, Any]
) -> None:
    reply = http.post(f"/v1/videos/{uploaded}/investments", json=body)
    assert reply.status_code == 400, reply.json()
    assert http.get(f"/v1/videos/{uploaded}").json()["pix"] == 5


def test_a_deletion_is_a_job_and_a_second_one_is_the_same(
    http: httpx.Client, uploaded: str, video: Path
) -> None:
    first = http.delete(f"/v1/videos/{uploaded}")
    again = http.delete(f"/v1/videos/{uploaded}")

    assert first.status_code == 202
    assert first.json()["kind"] == "delete"
    assert again.json()["id"] == first.json()["id"]
    assert http.get(f"/v1/videos/{uploaded}").json()["state"] == "deleting"
    creator = http.get(f"/v1/videos/{uploaded}").json()["creator_id"]
    assert upload(http, video, creator_id=creator).status_code == 409


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/videos/unknown"),
        ("PATCH", "/v1/videos/unknown"),
        ("DELETE", "/v1/videos/unknown"),
        ("POST", "/v1/videos/unknown/investments"),
        ("GET", "/v1/jobs/unknown"),
    ],
)
def test_what_does_not_exist_is_not_found(http: httpx.Client, method: str, path: str) -> None:
    body = {"pix": 1, "key": "k"} if method == "POST" else {}
    reply = http.request(method, path, json=body if method in ("POST", "PATCH") else None)
    assert (reply.status_code, reply.json()["error"]) == (404, "not_found")


@pytest.mark.parametrize("name", ["a%20b", "%2e%2e", "x" * 65, "a%0a"])
def test_an_id_that_is_none_is_refused(http: httpx.Client, name: str) -> None:
    assert http.get(f"/v1/videos/{name}").status_code in (400, 404)


def test_pages_of_videos_go_on_where_the_last_one_ended(http: httpx.Client) -> None:
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = http.get("/v1/videos", params={"limit": 3, **after}).json()
        seen += [video["id"] for video in page["videos"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert len(seen) == len(set(seen)) > 3
    for query in ({"limit": 0}, {"limit": 101}, {"after": "nonsense"}, {"page": 2}):
        assert http.get("/v1/videos", params=query).status_code == 400


# ---- crashes


def test_what_a_crash_left_is_swept_at_the_next_start(tmp_path: Path) -> None:
    settings = gateway_settings(tmp_path, f"http://{NOWHERE}")
    catalogue = Catalogue(settings.database_url)
    catalogue.library.add(new_video("known"))
    for folder in ("uploads/partial", "videos/unknown", "videos/known"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "source.mp4").write_bytes(b"x")

    disk = Threads(1, "disk")
    assert Uploads(settings, catalogue, disk).sweep() == 2
    assert Uploads(settings, catalogue, disk).sweep() == 0
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("[uv]*/*")}
    assert left == {"videos/known"}
    disk.close()
    catalogue.close()


@pytest.mark.parametrize("error", [StorageFull("the catalogue's disk is full"), Conflict("late")])
@pytest.mark.anyio
async def test_what_the_catalogue_did_not_take_leaves_no_file(
    tmp_path: Path, video: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = gateway_settings(tmp_path, f"http://{NOWHERE}")
    catalogue, disk = Catalogue(settings.database_url), Threads(1, "disk")
    uploads = Uploads(settings, catalogue, disk)
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'

    async def arriving() -> AsyncIterator[bytes]:
        for piece in (head, await disk.call(video.read_bytes), b"\r\n--b--\r\n"):
            yield piece

    def add(_new: NewVideo) -> Accepted:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(catalogue.library, "add", add)
        with pytest.raises(type(error)):
            await uploads.accept(arriving(), "multipart/form-data; boundary=b", None)
    assert [*settings.videos_dir.iterdir(), *settings.uploads_dir.iterdir()] == []
    accepted = await uploads.accept(arriving(), "multipart/form-data; boundary=b", None)
    assert [folder.name for folder in settings.videos_dir.iterdir()] == [accepted.video_id]
    disk.close()
    catalogue.close()


def test_a_start_beside_a_running_upload_does_not_sweep_it(gateway: Gateway) -> None:
    catalogue, disk = Catalogue(gateway.settings.database_url), Threads(1, "disk")
    with connection(gateway, content_length=2_500_000) as raw:
        raw.sendall(b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n')
        until(lambda: bool(gateway.folders()[0]))
        assert Uploads(gateway.settings, catalogue, disk).sweep() == 0
        assert gateway.folders()[0]
    until(lambda: not gateway.folders()[0])
    disk.close()
    catalogue.close()


# ---- the rate of an upload, and files of this machine


@pytest.fixture
def uploads(tmp_path: Path) -> Iterator[Uploads]:
    settings = gateway_settings(tmp_path, f"http://{NOWHERE}", max_upload_bytes=MAX_UPLOAD_BYTES)
    catalogue, disk = Catalogue(settings.database_url), Threads(1, "disk")
    yield Uploads(settings, catalogue, disk)
    disk.close()
    catalogue.close()


@pytest.mark.anyio
async def test_an_upload_that_comes_in_drops_is_given_up(
    uploads: Uploads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST_OVER_S", 0.1)

    async def drops() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.02)
            yield b"-"

    with pytest.raises(InvalidRequest, match=r"4,096 a second"):
        await uploads.accept(drops(), "multipart/form-data; boundary=b", None)
    assert list((tmp_path / "uploads").iterdir()) == []


@pytest.mark.anyio
async def test_an_upload_that_is_quick_enough_may_take_its_time(
    uploads: Uploads, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST_OVER_S", 0.05)
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
    data = await asyncio.to_thread(video.read_bytes)
    pieces = [data[at : at + 8_192] for at in range(0, len(data), 8_192)]

    async def arriving() -> AsyncIterator[bytes]:
        for piece in (head, *pieces, b"\r\n--b--\r\n"):
            await asyncio.sleep(0.01)
            yield piece

    accepted = await uploads.accept(arriving(), "multipart/form-data; boundary=b", None)
    assert not accepted.existing


def test_a_file_of_this_machine_is_taken_in_as_an_upload_is(
    uploads: Uploads, video: Path, tmp_path: Path
) -> None:
    sidecar = tmp_path / "words.srt"
    sidecar.write_bytes(SRT)
    accepted = uploads.take_file(video, VideoMetadata(creator_id="anna", pix=3), sidecar)
    again = uploads.take_file(video, VideoMetadata(creator_id="anna"))

    digest = hashlib.sha256(video.read_bytes()).hexdigest()
    assert accepted.video_id == video_id("anna", digest)
    assert (again.video_id, again.existing) == (accepted.video_id, True)
    folder = tmp_path / "videos" / accepted.video_id
    assert {path.name for path in folder.iterdir()} == {"source.mp4", "transcript.srt"}
    assert video.exists()
    assert list((tmp_path / "uploads").iterdir()) == []


def test_a_wrong_file_of_this_machine_is_refused_and_leaves_nothing(
    uploads: Uploads, video: Path, tmp_path: Path
) -> None:
    large, empty = tmp_path / "large.mp4", make_empty_file(tmp_path / "empty.mp4")
    large.write_bytes(bytes(MAX_UPLOAD_BYTES + 1))
    cases: list[tuple[Path, Path | None, type[Exception]]] = [
        (tmp_path / "nothing.mp4", None, InvalidRequest),
        (tmp_path, None, InvalidRequest),
        (empty, None, MediaRefused),
        (large, None, TooLarge),
        (make_text_file(tmp_path / "text.mp4"), None, MediaRefused),
        (video, tmp_path / "nothing.srt", InvalidRequest),
        (video, large, InvalidRequest),
    ]
    for path, transcript, error in cases:
        with pytest.raises(error):
            uploads.take_file(path, VideoMetadata(), transcript)
    for folder in ("uploads", "videos"):
        assert list((tmp_path / folder).glob("*")) == []


@given(st.text(min_size=1), st.text(min_size=1))
def test_video_ids_are_short_words_that_follow_from_their_parts(one: str, two: str) -> None:
    found = video_id(one, two)
    assert len(found) == 16
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyz234567")
    assert found == video_id(one, two)


def test_videos_of_two_creators_differ() -> None:
    assert video_id("a", "x") != video_id("b", "x")
    assert video_id("a", "bx") != video_id("ab", "x")


class connection:  # noqa: N801
    """A raw upload whose bytes a test sends by itself."""

    def __init__(self, gateway: Gateway, content_length: int) -> None:
        self._socket = socket.create_connection(
            (gateway.settings.host, gateway.settings.port), timeout=10
        )
        self._socket.sendall(
            b"POST /v1/videos HTTP/1.1\r\nHost: x\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n"
            + f"Content-Length: {content_length}\r\n\r\n".encode()
        )

    def __enter__(self) -> socket.socket:
        return self._socket

    def __exit__(self, *_: object) -> None:
        self._socket.close()

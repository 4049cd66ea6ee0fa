import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest

from gateway import errors
from gateway.client import Client
from gateway.client_async import AsyncClient
from gateway.client_replies import kinds
from gateway.client_requests import search_options
from gateway.schemas import SearchRequest, VideoMetadata, VideoPatch
from tests.gateways import (
    NOWHERE,
    Gateway,
    add_searchable,
    gateway_settings,
    running_gateway,
)
from tests.media import make_text_file, make_video


@pytest.fixture(scope="module")
def gateway(milvus_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = gateway_settings(tmp_path_factory.mktemp("client"), milvus_uri)
    with running_gateway(settings) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[Client]:
    with Client(gateway.url) as client:
        yield client


def test_a_video_goes_through_its_life(client: Client, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4")
    transcript = tmp_path / "a.srt"
    transcript.write_text("1\n00:00:00,000 --> 00:00:02,000\nhello\n")
    sent: list[tuple[int, int]] = []

    accepted = client.upload(
        path, VideoMetadata(title="A", pix=5), transcript, lambda *told: sent.append(told)
    )
    again = client.upload(path, VideoMetadata(title="A", pix=5))

    assert sent[-1] == (path.stat().st_size, path.stat().st_size)
    assert (again.video_id, again.existing) == (accepted.video_id, True)
    assert client.job(accepted.job_id).state == "queued"
    assert client.video(accepted.video_id).pix == 5
    assert client.invest(accepted.video_id, 3, "k").total_pix == 8
    assert client.invest(accepted.video_id, 3, "k").repeated
    assert client.patch_video(accepted.video_id, VideoPatch(title="B")).title == "B"
    assert accepted.video_id in {video.id for video in client.videos(limit=100).videos}
    assert client.delete_video(accepted.video_id).kind == "delete"


def test_a_search_finds_and_a_patch_is_searchable_at_once(client: Client, gateway: Gateway) -> None:
    video_id = add_searchable(gateway.settings, "patched", ["some words"], title="before")
    request = SearchRequest(query="volcano", deadline_ms=5_000)
    assert client.search(request).hits == ()

    client.patch_video(video_id, VideoPatch(title="volcano", tags=("lava",)))

    assert [hit.video_id for hit in client.search(request).hits] == [video_id]
    client.patch_video(video_id, VideoPatch(title="before"))
    assert client.search(request).hits == ()


def test_pages_are_followed_by_their_cursor(client: Client, gateway: Gateway) -> None:
    for number in range(3):
        add_searchable(gateway.settings, f"page-{number}", ["x"])
    first = client.videos(limit=2)
    second = client.videos(first.next, limit=2)
    assert first.next is not None
    assert not {v.id for v in first.videos} & {v.id for v in second.videos}


def test_the_health_of_a_stack_without_triton_is_degraded(client: Client) -> None:
    health = client.ready()
    assert (health.status, health.degraded) == ("degraded", ("triton: unavailable",))


def test_waiting_ends_in_time(client: Client, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", duration_s=3)
    accepted = client.upload(path, VideoMetadata())
    seen: list[str] = []
    with pytest.raises(errors.DeadlineExceeded, match="is queued"):
        client.wait(accepted.job_id, lambda job: seen.append(job.state), timeout_s=0.2)
    assert seen == ["queued"]


def test_errors_come_back_as_what_they_were(client: Client, tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound, match="no video nothing"):
        client.video("nothing")
    with pytest.raises(errors.InvalidRequest):
        client.videos(limit=1_000)
    with pytest.raises(errors.MediaRefused) as refused:
        client.upload(make_text_file(tmp_path / "a.mp4"), VideoMetadata())
    assert refused.value.reason == "not_media"
    with pytest.raises(errors.PixserveError):
        client.search(SearchRequest(image=b"\x89PNG"))


def test_without_a_gateway_the_client_says_so() -> None:
    with (
        Client(f"http://{NOWHERE}") as client,
        pytest.raises(errors.Unavailable, match=r"no gateway answers at http://127\.0\.0\.1:1"),
    ):
        client.ready()


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://x", "http://"])
def test_a_url_that_is_none_is_named(url: str) -> None:
    with Client(url) as client, pytest.raises(errors.PixserveError):
        client.ready()


def test_an_answer_that_is_not_ours_is_told() -> None:
    with HTTPServer(("127.0.0.1", 0), _Other) as server:
        threading.Thread(target=server.handle_request).start()
        with (
            Client(f"http://127.0.0.1:{server.server_port}") as client,
            pytest.raises(errors.Unavailable, match="not as pixserve does"),
        ):
            client.ready()


def test_every_error_that_the_gateway_raises_is_known() -> None:
    known = kinds(errors.PixserveError)
    for name in ("invalid_request", "not_found", "conflict", "media_limit_exceeded"):
        assert known[name].kind == name


class _Other(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>another server</html>")

    def log_message(self, *_: object) -> None:
        return


@pytest.mark.anyio
async def test_the_asynchronous_client_finds_the_same_and_raises_the_same(
    client: Client, gateway: Gateway
) -> None:
    texts = ["an unusual xylophone"]
    await asyncio.to_thread(add_searchable, gateway.settings, "async", texts)
    request = SearchRequest(query="xylophone", deadline_ms=5_000)
    async with AsyncClient(gateway.url) as other:
        replies = await asyncio.gather(*(other.search(request) for _ in range(8)))
        expected = client.search(request).hits
        assert [hit.video_id for hit in expected] == ["async"]
        assert all(reply.hits == expected for reply in replies)
        assert (await other.video("async")).id == "async"
        assert await other.ready() == client.ready()
        with pytest.raises(errors.NotFound):
            await other.job("nothing")
        with pytest.raises(errors.PixserveError):
            await other.search(SearchRequest(image=b"\x89PNG"))


@pytest.mark.anyio
async def test_without_a_gateway_the_asynchronous_client_says_so() -> None:
    async with AsyncClient(f"http://{NOWHERE}") as client:
        with pytest.raises(errors.Unavailable, match="no gateway answers"):
            await client.ready()
    async with AsyncClient("ftp://x") as client:
        with pytest.raises(errors.ConfigurationError, match="is no URL"):
            await client.ready()


def test_a_search_travels_as_json_and_as_a_form_with_files() -> None:
    words = SearchRequest(query="a", not_="b", like="v-000000000", own_video=False)
    assert msgspec.json.decode(search_options(words)["content"], type=SearchRequest) == words
    told = search_options(msgspec.structs.replace(words, image=b"x", clip=b"y"))["files"]
    assert set(told) == {"request", "image", "clip"}
    assert msgspec.json.decode(told["request"][1], type=SearchRequest) == words

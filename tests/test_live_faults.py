"""What searches do while parts are down, and that they recover."""

import signal
import time

import httpx
import pytest

from gateway.schemas import SearchRequest
from tests.waiting import until

pytestmark = pytest.mark.live

DEADLINE_MS = 500  # of searches while something is down
PROMPT_S = 3.0  # far over that deadline, far under a hang


def is_ready(demo) -> bool:
    reply = httpx.get(f"{demo.stack.url}/health/ready")
    return reply.status_code == 200 and not reply.json()["degraded"]


def has_recovered(demo, part: str, restarts: int) -> bool:
    """Restarted, ready, and known to be so by the gateway, which looks once a second."""
    now = demo.stack.part(part)
    return now.restarts > restarts and demo.stack.state.ready and is_ready(demo)


def test_without_triton_keyword_results_still_come_and_say_so(demo, client):
    server, *stubs = demo.stack.processes("triton")
    for process in (server, *stubs):
        process.send_signal(signal.SIGSTOP)
    try:
        start = time.monotonic()
        reply = client.search(
            SearchRequest(query="bowline on a fresh query", deadline_ms=DEADLINE_MS)
        )
        assert time.monotonic() - start < PROMPT_S
    finally:
        for process in (server, *stubs):
            process.send_signal(signal.SIGCONT)
    assert reply.hits[0].video_id == demo.ids["sailing"]
    assert any(reason.startswith("speech") for reason in reply.degraded)
    until(lambda: is_ready(demo))


def test_a_killed_triton_is_restarted_and_full_quality_returns(demo, client):
    before = demo.stack.part("triton")
    demo.stack.processes("triton")[0].kill()
    start = time.monotonic()
    reply = client.search(
        SearchRequest(query="bowline right after the kill", deadline_ms=DEADLINE_MS)
    )
    assert time.monotonic() - start < PROMPT_S
    assert reply.hits[0].video_id == demo.ids["sailing"]
    until(lambda: has_recovered(demo, "triton", before.restarts))
    assert client.search(SearchRequest(query="bowline once it is back")).degraded == ()


def test_triton_is_restarted_when_the_process_of_one_model_ends(demo, client):
    before = demo.stack.part("triton")
    (stub,) = (
        process
        for process in demo.stack.processes("triton")
        if any(word.startswith("sentence_0") for word in process.cmdline())
    )
    stub.kill()
    until(lambda: has_recovered(demo, "triton", before.restarts))
    reply = client.search(SearchRequest(query="bowline after a model's death"))
    assert reply.degraded == ()


def test_without_milvus_a_search_is_503_with_the_reason_and_does_not_hang(demo, client):
    (server, *_) = demo.stack.processes("milvus")
    server.send_signal(signal.SIGSTOP)
    try:
        start = time.monotonic()
        reply = httpx.get(
            f"{demo.stack.url}/v1/search",
            params={"q": "bowline", "deadline_ms": DEADLINE_MS},
            timeout=30,
        )
        assert time.monotonic() - start < PROMPT_S
        assert reply.status_code in {503, 504}
        assert reply.json()["part"] == "milvus"
        until(lambda: httpx.get(f"{demo.stack.url}/health/ready").status_code == 503)
        assert httpx.get(f"{demo.stack.url}/health/live").status_code == 200
    finally:
        server.send_signal(signal.SIGCONT)
    until(lambda: is_ready(demo))
    assert client.search(SearchRequest(query="bowline")).hits[0].video_id == demo.ids["sailing"]


def test_a_killed_milvus_is_restarted_with_all_its_rows(demo, client):
    query = SearchRequest(query="bowline", group="segment", limit=50)
    before = [(hit.video_id, hit.start_s) for hit in client.search(query).hits]
    restarts = demo.stack.part("milvus").restarts
    demo.stack.processes("milvus")[0].kill()
    until(lambda: has_recovered(demo, "milvus", restarts))
    after = [(hit.video_id, hit.start_s) for hit in client.search(query).hits]
    assert after == before


def test_every_part_shows_its_state_version_and_address(demo):
    parts = {part.name: part for part in demo.stack.state.parts}
    assert set(parts) == {"triton", "milvus", "worker", "gateway"}
    assert all(part.state == "ready" and part.version for part in parts.values())


def test_the_metrics_tell_of_searches_and_legs(demo):
    text = httpx.get(f"{demo.stack.url}/metrics").text
    assert "pixserve_" in text
    assert 'route="/v1/search"' in text


def test_the_api_page_loads_nothing_from_elsewhere(demo):
    page = httpx.get(f"{demo.stack.url}/docs", follow_redirects=True)
    assert page.status_code == 200
    assert "https://" not in page.text.replace("https://spec.openapis.org", "")
    spec = httpx.get(f"{demo.stack.url}/openapi.json").json()
    assert {"/v1/search", "/v1/videos", "/health/ready"} <= set(spec["paths"])

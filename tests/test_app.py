import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.api.app import ROUTES
from gateway.api.routes_search import MAX_BODY_BYTES
from gateway.api.service import endpoint_of
from gateway.search.query import MAX_QUERY_CLIP_BYTES
from tests.catalogues import new_video
from tests.conftest import start_milvus
from tests.gateways import (
    NOWHERE,
    STOP_S,
    Gateway,
    add_searchable,
    gateway_settings,
    running_gateway,
    start,
)
from tests.waiting import until


@pytest.fixture(scope="module")
def gateway(milvus_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = gateway_settings(
        tmp_path_factory.mktemp("app"), milvus_uri, search_deadline_ms=2_000
    )
    with running_gateway(settings) as gateway:
        add_searchable(
            settings,
            "bread",
            ["knead the dough for ten minutes", "let the dough rest"],
            title="Bread",
            category="tutorial",
            tags=("baking",),
            pix=50,
        )
        add_searchable(settings, "guitar", ["a guitar solo in the rain"], title="Rain")
        yield gateway


@pytest.fixture(scope="module")
def http(gateway: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, timeout=10) as client:
        yield client


# ---- search


def test_without_triton_keyword_results_still_come_marked_degraded(http: httpx.Client) -> None:
    reply = http.get("/v1/search", params={"q": "dough"})

    told = reply.json()
    assert reply.status_code == 200
    assert [hit["video_id"] for hit in told["hits"]] == ["bread"]
    assert any("triton" in reason for reason in told["degraded"])
    assert told["model_version"] == "gateway-1"
    moment = told["hits"][0]["moments"][0]
    assert (moment["start_s"], moment["end_s"]) == (0.0, 10.0)  # both segments match
    assert moment["segments"] == ["bread-000000000", "bread-000005000"]
    assert moment["parts"]["pix"] == 50
    assert [leg["leg"] for leg in moment["parts"]["legs"]] == ["keyword"]


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/search/quick", {"q": "guitar", "limit": "3"}),
        ("/search/multimodal/quick", {"q": "guitar", "mode": "text_heavy", "limit": "3"}),
        ("/v1/search", {"q": "guitar", "group": "segment", "limit": "3"}),
    ],
)
def test_every_way_of_searching_finds_the_same(
    http: httpx.Client, path: str, params: dict[str, str]
) -> None:
    hits = http.get(path, params=params).json()["hits"]
    assert [hit["video_id"] for hit in hits] == ["guitar"]


def test_a_search_by_json_takes_filters(http: httpx.Client) -> None:
    request = {"query": "dough guitar", "filters": {"category": ["tutorial"], "tags": ["baking"]}}
    hits = http.post("/v1/search", json=request).json()["hits"]
    assert [hit["video_id"] for hit in hits] == ["bread"]


def test_a_search_by_form_takes_the_request_as_a_part(http: httpx.Client) -> None:
    files = {"request": (None, json.dumps({"query": "guitar"}))}
    hits = http.post("/v1/search", files=files).json()["hits"]
    assert [hit["video_id"] for hit in hits] == ["guitar"]


def test_an_image_without_triton_is_unavailable_not_an_empty_result(http: httpx.Client) -> None:
    reply = http.post("/v1/search", files={"image": ("a.png", b"\x89PNG" + bytes(100))})
    assert reply.status_code in (422, 503)
    assert reply.json()["error"] in ("media_refused", "unavailable")


@pytest.mark.parametrize(
    ("clip", "status", "kind", "reason"),
    [
        (b"this is no video", 422, "media_refused", "not_media"),
        (bytes(MAX_QUERY_CLIP_BYTES + 1), 413, "too_large", None),
        (b"", 400, "invalid_request", None),
    ],
    ids=["no media", "too large", "empty"],
)
def test_a_clip_that_is_none_is_refused_by_its_reason(
    http: httpx.Client, clip: bytes, status: int, kind: str, reason: str | None
) -> None:
    files = {"clip": ("clip.mp4", clip), "request": (None, json.dumps({"deadline_ms": 60_000}))}
    reply = http.post("/v1/search", files=files)
    told = reply.json()
    assert (reply.status_code, told["error"], told["reason"]) == (status, kind, reason)


def test_stage_times_are_in_header_and_body(http: httpx.Client) -> None:
    reply = http.get("/v1/search", params={"q": "dough"})
    times = reply.json()["stage_ms"]
    told = dict(re.findall(r"(\w+);dur=([\d.]+)", reply.headers["server-timing"]))
    assert told.keys() == times.keys()
    assert float(told["total"]) == pytest.approx(times["total"], abs=0.001)


def test_a_deleted_video_is_not_found_any_more(http: httpx.Client, gateway: Gateway) -> None:
    add_searchable(gateway.settings, "short-lived", ["zebra crossing"])
    assert http.get("/v1/search", params={"q": "zebra"}).json()["hits"]
    assert http.delete("/v1/videos/short-lived").status_code == 202
    assert http.get("/v1/search", params={"q": "zebra"}).json()["hits"] == []


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("GET", "/v1/search", {}),
        ("GET", "/v1/search?q=", {}),
        ("GET", "/v1/search?q=%20%20", {}),
        ("GET", "/v1/search?q=x&limit=-1", {}),
        ("GET", "/v1/search?q=x&limit=0", {}),
        ("GET", "/v1/search?q=x&limit=101", {}),
        ("GET", "/v1/search?q=x&mode=loud", {}),
        ("GET", "/v1/search?q=x&colour=red", {}),
        ("GET", "/v1/search?q=x&pix_weight=0.6", {}),
        ("GET", "/search/quick", {}),
        ("GET", "/search/quick?q=x&mode=balanced", {}),
        ("GET", "/search/multimodal/quick?q=x&mode=loud", {}),
        ("POST", "/v1/search", {"content": b"not json"}),
        ("POST", "/v1/search", {"content": b""}),
        ("POST", "/v1/search", {"json": {"query": "x", "limit": -1}}),
        ("POST", "/v1/search", {"json": {"query": "x", "limit": "3"}}),
        ("POST", "/v1/search", {"json": {"query": 5}}),
        ("POST", "/v1/search", {"json": ["x"]}),
        ("POST", "/v1/search", {"json": {"query": "x", "image": "not base64!"}}),
        ("POST", "/v1/search", {"files": {"nothing": ("a", b"b")}}),
        ("POST", "/v1/search", {"files": {"request": (None, b"{")}}),
    ],
)
def test_a_wrong_search_is_refused(
    http: httpx.Client, method: str, path: str, options: dict[str, object]
) -> None:
    reply = http.request(method, path, **options)  # type: ignore[arg-type]
    told = reply.json()
    assert reply.status_code == 400, told
    assert told["error"] == "invalid_request"
    assert told["message"]
    assert told["request_id"] == reply.headers["x-request-id"]


def test_an_enormous_query_is_refused(http: httpx.Client) -> None:
    reply = http.post("/v1/search", json={"query": "x" * 1_000_000})
    assert reply.status_code in (400, 413)


def test_an_enormous_body_is_refused(http: httpx.Client) -> None:
    reply = http.post("/v1/search", content=b"x" * (MAX_BODY_BYTES + 1))
    assert reply.status_code == 413
    assert reply.json()["error"] == "too_large"


@pytest.mark.parametrize("deadline", ["0", "600000", "-1", "1.5", "soon", "", "nan", "9" * 400])
def test_a_deadline_that_is_none_is_refused(http: httpx.Client, deadline: str) -> None:
    by_header = http.get("/v1/search?q=dough", headers={"X-Deadline-Ms": deadline})
    by_parameter = http.get("/v1/search", params={"q": "dough", "deadline_ms": deadline})
    for reply in (by_header, by_parameter):
        assert reply.status_code == 400
        assert "deadline" in reply.json()["message"].lower()
    assert "1 to 60000 milliseconds" in by_header.json()["message"]


@pytest.mark.parametrize("path", ["/v1/search", "/search/quick", "/search/multimodal/quick"])
def test_a_deadline_too_short_for_any_leg_is_named(http: httpx.Client, path: str) -> None:
    reply = http.get(path, params={"q": "dough"}, headers={"X-Deadline-Ms": "1"})
    told = reply.json()
    if reply.status_code == 200:  # a quick machine: one leg made it
        assert told["degraded"]
    else:
        assert reply.status_code == 504
        assert told["error"] == "deadline_exceeded"
        assert "the deadline of 1 ms" in told["message"]


def test_of_two_deadlines_the_shorter_one_holds(http: httpx.Client) -> None:
    for parameter, header in (("1", "60000"), ("60000", "1")):
        reply = http.get(
            "/v1/search",
            params={"q": "dough", "deadline_ms": parameter},
            headers={"X-Deadline-Ms": header},
        )
        assert reply.status_code == 504 or reply.json()["degraded"]


@pytest.mark.parametrize(
    ("method", "path", "options", "told"),
    [
        ("GET", "/v1/search?q=x&mode=loud", {}, "balanced, text_heavy|audio_heavy, auto, balanced"),
        ("GET", "/search/multimodal/quick?q=x&mode=loud", {}, "vision_heavy"),
        ("POST", "/v1/search", {"json": {"query": "x", "mode": "loud"}}, "one of .*auto"),
        ("POST", "/v1/search", {"json": {"query": "x", "group": "all"}}, "one of segment, video"),
        ("POST", "/v1/search", {"json": {"query": "x", "limit": 0}}, "limit"),
        ("POST", "/v1/search", {"json": {"query": "x", "limit": 10_000}}, "<= 100.*limit"),
        ("POST", "/v1/search", {"json": {"query": "x", "colour": 1}}, "unknown field `colour`"),
        ("POST", "/v1/search", {"json": {"query": "x", "weights": {}}}, "weights leave no leg"),
        ("POST", "/v1/search", {"json": {"query": "x", "weights": {"visual": 1e20}}}, "visual"),
        ("GET", "/v1/search?q=x&weights.visual=nan", {}, "visual"),
        ("GET", "/v1/search?q=x&pix_weight=nan", {}, "pix_weight"),
        ("GET", "/v1/search?q=x&filters.min_duration_s=nan", {}, "min_duration_s"),
        ("POST", "/v1/search", {"json": {"query": "x", "like": "a"}}, "like"),
        ("POST", "/v1/search", {"json": {"query": "x", "like": "../a-000000000"}}, "like"),
        ("POST", "/v1/search", {"json": {"query": "-x"}}, "empty"),
        ("POST", "/v1/search", {"json": {"not": "x"}}, "empty"),
        ("POST", "/v1/search", {"json": {"query": "x -x"}}, "excludes it"),
        (
            "POST",
            "/v1/search",
            {"json": {"query": "x", "filters": {"created_after": "2026-01-01"}}},
            "created_after",
        ),
        (
            "POST",
            "/v1/search",
            {"json": {"query": "x", "filters": {"created_after": "2026-01-01T00:00:00"}}},
            "timezone.*created_after",
        ),
        (
            "POST",
            "/v1/search",
            {"json": {"query": "x", "filters": {"created_before": "0001-01-01T00:00:00+12:00"}}},
            "out of range",
        ),
        (
            "GET",
            "/v1/search?q=x&filters.created_after=2026-02-01T00:00:00Z"
            "&filters.created_before=2026-01-01T00:00:00Z",
            {},
            "swap them",
        ),
        ("GET", "/v1/search?q=x&filters.min_duration_s=2&filters.max_duration_s=1", {}, "swap"),
        (
            "POST",
            "/v1/search",
            {"json": {"query": "x", "filters": {"category": ["a"] * 101}}},
            "length <= 100.*category",
        ),
    ],
)
def test_what_is_wrong_about_a_search_is_told(
    http: httpx.Client, method: str, path: str, options: dict[str, object], told: str
) -> None:
    reply = http.request(method, path, **options)  # type: ignore[arg-type]
    assert reply.status_code == 400, reply.text
    assert re.search(told, reply.json()["message"]), reply.json()["message"]


def test_a_segment_that_is_not_there_is_not_found(http: httpx.Client) -> None:
    reply = http.get("/v1/search", params={"like": "nothing-000000000"})
    assert reply.status_code == 404
    assert "like" in reply.json()["message"]


def test_more_like_a_segment_needs_no_triton(http: httpx.Client) -> None:
    reply = http.get("/v1/search", params={"like": "bread-000000000", "group": "segment"})
    told = reply.json()
    ids = {hit["moments"][0]["segment_id"] for hit in told["hits"]}
    assert told["degraded"] == []
    assert "bread-000005000" in ids
    assert "bread-000000000" not in ids
    others = http.get("/v1/search", params={"like": "bread-000000000", "own_video": "false"})
    assert {hit["video_id"] for hit in others.json()["hits"]} & {"bread"} == set()


# ---- what every reply has


def test_an_unknown_route_is_an_error_reply(http: httpx.Client) -> None:
    reply = http.get("/nothing/here")
    assert reply.status_code == 404
    assert reply.json()["error"] == "not_found"
    assert reply.headers["x-request-id"]


def test_a_wrong_method_is_an_error_reply(http: httpx.Client) -> None:
    reply = http.put("/v1/search")
    assert reply.status_code == 405
    assert reply.json()["error"] == "method_not_allowed"


def test_a_safe_request_id_comes_back_and_another_is_replaced(http: httpx.Client) -> None:
    safe = http.get("/health/live", headers={"X-Request-Id": "abc-1.2_3"})
    unsafe = http.get("/health/live", headers={"X-Request-Id": 'a"b{};'})
    assert safe.headers["x-request-id"] == "abc-1.2_3"
    assert re.fullmatch(r"[0-9a-f]{16}", unsafe.headers["x-request-id"])


def logged(gateway: Gateway, request_id: str) -> list[dict[str, object]]:
    """The lines of the log about a request, but for one that is being written."""
    whole = gateway.log.read_text().rpartition("\n")[0].splitlines()
    lines = [json.loads(line) for line in whole]
    return [line for line in lines if line.get("request_id") == request_id]


def test_requests_are_logged_as_one_json_line_each(http: httpx.Client, gateway: Gateway) -> None:
    http.get("/health/live", headers={"X-Request-Id": "look-for-me"})
    until(lambda: logged(gateway, "look-for-me"))  # written when the reply is out
    (line,) = logged(gateway, "look-for-me")
    assert (line["message"], line["status"]) == ("GET /health/live", 200)
    assert line["ms"] > 0


# ---- health and metrics


def test_ready_names_what_is_missing(http: httpx.Client) -> None:
    reply = http.get("/health/ready")
    assert reply.status_code == 200
    assert reply.json() == {
        "status": "degraded",
        "degraded": ["triton: unavailable"],
        "model_version": "gateway-1",
    }


def test_metrics_count_requests_searches_and_jobs(http: httpx.Client) -> None:
    http.get("/v1/search", params={"q": "dough"})
    http.get("/v1/videos/bread")
    text = http.get("/metrics").text
    assert 'pixserve_request_seconds_count{method="GET",route="/v1/search",status="200"}' in text
    assert 'route="/v1/videos/{video_id}"' in text
    assert 'pixserve_search_stage_seconds_bucket{le="0.005",stage="legs"}' in text
    assert "pixserve_search_degraded_total" in text
    assert 'pixserve_jobs{kind="ingest",state="succeeded"}' in text
    assert "pixserve_job_queue_depth" in text
    assert "bread" not in text  # ids would make labels without end


# ---- the description of the API


def test_every_route_is_described(http: httpx.Client) -> None:
    told = http.get("/openapi.json").json()
    described = {path for path, methods in told["paths"].items() for _ in methods}
    undescribed = {"/metrics", "/openapi.json", "/docs", "/schema", "/", "/favicon.ico"}
    paths = {
        re.sub(r":\w+}", "}", path)
        for handler in ROUTES
        for path in handler.paths
        if endpoint_of(handler.opt)
    }
    assert described == paths
    assert {
        path for handler in ROUTES for path in handler.paths if not endpoint_of(handler.opt)
    } == undescribed


def test_every_reference_of_the_description_leads_somewhere(http: httpx.Client) -> None:
    text = http.get("/openapi.json").text
    schemas = json.loads(text)["components"]["schemas"]
    names = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert names
    assert names <= schemas.keys()


def test_the_description_tells_the_parameters_of_a_search(http: httpx.Client) -> None:
    operation = http.get("/openapi.json").json()["paths"]["/v1/search"]["get"]
    names = {parameter["name"] for parameter in operation["parameters"]}
    assert {"q", "limit", "mode", "filters.min_pix", "weights.speech"} <= names
    assert not names & {"query", "image", "audio", "clip", "filters"}


def test_the_page_of_the_api_works_without_a_network(http: httpx.Client) -> None:
    reply = http.get("/docs")
    assert reply.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "/v1/search" in reply.text
    assert not re.search(r"(?i)https?://|//[a-z0-9-]+\.[a-z]|<script|url\(|@import", reply.text)


def test_the_address_itself_leads_to_the_description_and_has_an_icon(http: httpx.Client) -> None:
    reply = http.get("/")
    assert (reply.status_code, reply.headers["location"]) == (307, "/docs")
    icon = http.get("/favicon.ico")
    assert (icon.status_code, icon.headers["content-type"]) == (200, "image/svg+xml")
    assert icon.content.startswith(b"<svg")


# ---- parts that are not there


def test_without_milvus_search_and_ready_say_so_without_hanging(tmp_path: Path) -> None:
    with running_gateway(gateway_settings(tmp_path, f"http://{NOWHERE}")) as gateway:
        begin = time.monotonic()
        ready = httpx.get(f"{gateway.url}/health/ready", timeout=5)
        search = httpx.get(f"{gateway.url}/v1/search", params={"q": "dough"}, timeout=5)
        assert time.monotonic() - begin < 3
    assert ready.status_code == 503
    assert ready.json()["status"] == "unavailable"
    assert "milvus: unavailable" in ready.json()["degraded"]
    assert search.status_code in (503, 504)
    assert search.json()["part"] in ("milvus", "triton")


def test_a_milvus_that_never_answers_hangs_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        milvus = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with running_gateway(gateway_settings(tmp_path, milvus)) as gateway:
            begin = time.monotonic()
            ready = httpx.get(f"{gateway.url}/health/ready", timeout=5)
            search = httpx.get(f"{gateway.url}/v1/search", params={"q": "dough"}, timeout=5)
            assert time.monotonic() - begin < 3
    assert ready.status_code == 503
    assert search.status_code in (503, 504)


def test_a_milvus_that_comes_later_makes_search_ready(tmp_path: Path) -> None:
    settings = gateway_settings(tmp_path, f"http://{NOWHERE}")
    address = f"127.0.0.1:{settings.port + 1 if settings.port < 65_000 else 64_000}"
    settings = gateway_settings(tmp_path, f"http://{address}")
    with running_gateway(settings) as gateway:
        assert httpx.get(f"{gateway.url}/health/ready").status_code == 503
        with start_milvus(tmp_path, address) as milvus:
            until(lambda: httpx.get(f"{gateway.url}/health/ready").status_code == 200)
            milvus.kill()


@pytest.mark.parametrize("process", ["gateway.serve", "ingest.worker"])
def test_without_a_bundle_a_process_says_what_to_do(tmp_path: Path, process: str) -> None:
    settings = gateway_settings(tmp_path, f"http://{NOWHERE}")
    (tmp_path / "models/gateway/bundles/1/bundle.json").unlink()
    with start(settings, process, subprocess.PIPE) as started:
        text = started.communicate(timeout=30)[0].decode()
    assert started.returncode == 1
    assert "run pixserve export" in text
    assert "Traceback" not in text


def test_a_stop_finishes_what_runs(tmp_path: Path, milvus_uri: str) -> None:
    settings = gateway_settings(tmp_path, milvus_uri)
    with running_gateway(settings) as gateway, httpx.Client(base_url=gateway.url) as client:
        assert client.get("/v1/videos").status_code == 200
        gateway.process.send_signal(signal.SIGTERM)
        gateway.process.wait(STOP_S)
    assert "Traceback" not in gateway.log.read_text()


def test_a_new_video_is_read_before_it_is_analysed(http: httpx.Client, gateway: Gateway) -> None:
    from gateway.catalogue.catalogue import Catalogue

    catalogue = Catalogue(gateway.settings.database_url)
    catalogue.library.add(new_video("fresh"))
    catalogue.close()
    video = http.get("/v1/videos/fresh").json()
    assert (video["state"], video["segments"]) == ("queued", 0)

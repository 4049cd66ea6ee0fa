"""The search over gRPC: the same fields, errors and limits as over HTTP."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import grpc.aio
import httpx
import msgspec
import pytest

from ensembles.bundle import Bundle
from gateway import errors, schemas
from gateway.api.metrics import Metrics
from gateway.api.service import Service
from gateway.doors import Doors
from gateway.errors import InvalidRequest, PixserveError, Unavailable
from gateway.rpc import search_pb2 as pb
from gateway.rpc.messages import message_of, request_of
from gateway.rpc.server import CODES, MAX_MESSAGE_BYTES, ROUTE, serving_rpc
from gateway.schemas import SearchRequest
from gateway.search.cache import Cache
from gateway.search.search import search
from gateway.triton import Triton
from tests.conftest import free_port
from tests.corpora import add_video, opened_doors, picture
from tests.fake_triton import FakeTriton
from tests.gateways import add_searchable, gateway_settings, running_gateway

ROOT = Path(__file__).parent.parent
STRUCTS = [
    "SearchRequest",
    "InputWeights",
    "LegWeights",
    "Filters",
    "SearchReply",
    "Hit",
    "Moment",
    "Span",
    "ScoreParts",
    "LegScore",
    "StageTimes",
]


@pytest.mark.parametrize("name", STRUCTS)
def test_messages_have_the_fields_of_the_structs(name: str) -> None:
    struct = getattr(schemas, name)
    fields = {field.encode_name for field in msgspec.structs.fields(struct)}
    assert set(pb.DESCRIPTOR.message_types_by_name[name].fields_by_name) == fields


def test_every_message_is_compared() -> None:
    assert set(pb.DESCRIPTOR.message_types_by_name) == set(STRUCTS)


def test_the_generated_code_is_that_of_the_proto(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed")
    command = ["-m", "grpc_tools.protoc", "-I", ".", f"--python_out={tmp_path}"]
    command += [f"--pyi_out={tmp_path}", "gateway/rpc/search.proto"]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)
    for name in ("search_pb2.py", "search_pb2.pyi"):
        generated = (tmp_path / "gateway" / "rpc" / name).read_text()
        assert generated == (ROOT / "gateway" / "rpc" / name).read_text(), "run: make proto"


def kinds(base: type[PixserveError] = PixserveError) -> list[type[PixserveError]]:
    return [base, *(kind for below in base.__subclasses__() for kind in kinds(below))]


def test_every_error_has_a_status_of_grpc() -> None:
    assert len(kinds()) >= 14
    assert {kind.status for kind in kinds()} <= set(CODES)
    assert set(CODES) <= {kind.status for kind in kinds()}
    assert CODES[errors.Unavailable.status] is grpc.StatusCode.UNAVAILABLE


# ---- messages


def test_an_empty_message_has_the_defaults_of_the_struct() -> None:
    assert request_of(pb.SearchRequest(), None) == SearchRequest()


def test_a_full_message_is_the_struct_of_the_same_fields() -> None:
    told = {
        "query": "baking",
        "not": "cake",
        "image": b"\x00\xff",
        "clip": b"\xff\x00",
        "weights": {"visual": 0.5},
        "filters": {"category": ["food"], "min_pix": 0, "created_after": "2026-01-01T00:00:00Z"},
        "limit": 3,
        "own_video": False,
        "pix_weight": 0.0,
    }
    asked = request_of(pb.SearchRequest(**cast("Any", told)), None)
    assert asked == msgspec.convert(told, SearchRequest)


@pytest.mark.parametrize(
    ("told", "what"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 10_000}, "limit"),
        ({"mode": "loud"}, "mode"),
        ({"pix_weight": float("nan")}, "pix_weight"),
        ({"weights": {"speech": 2.0}}, "speech"),
        ({"filters": {"creator_id": ["a b"]}}, "creator_id"),
        ({"deadline_ms": 0}, "deadline_ms"),
        ({"query": "x" * 1_000_000}, "query"),
    ],
)
def test_what_http_refuses_is_refused(told: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidRequest, match=what):
        request_of(pb.SearchRequest(**told), None)


@pytest.mark.parametrize("tag", [b"\xc8\x3e\x01", b"\x6a\x03\xc8\x3e\x01"])
def test_unknown_fields_are_refused(tag: bytes) -> None:
    with pytest.raises(InvalidRequest, match="has no field 1001"):
        request_of(pb.SearchRequest.FromString(tag), None)


@pytest.mark.parametrize(
    ("left_s", "told_ms", "expected_ms"),
    [(0.08, None, 80), (0.08, 50, 50), (0.05, 80, 50), (-1.0, None, 1), (1e9, None, 60_000)],
)
def test_the_deadline_is_that_of_the_call(
    left_s: float, told_ms: int | None, expected_ms: int
) -> None:
    message = pb.SearchRequest(query="q", deadline_ms=told_ms)
    assert request_of(message, left_s).deadline_ms == expected_ms
    assert request_of(message, None).deadline_ms == told_ms


# ---- calls


@pytest.fixture
async def doors(bundle: Bundle, milvus_uri: str, tmp_path: Path) -> AsyncIterator[Doors]:
    async with opened_doors(bundle, milvus_uri, tmp_path) as opened:
        texts = ["put the dough into the oven", "the loaf is ready"]
        await add_video(opened, "bread", texts, title="Évening", category="food", pix=10)
        await add_video(opened, "guitar", ["every chord has strings"])
        yield opened


class Caller:
    """A client of a server over these doors."""

    def __init__(self, channel: grpc.aio.Channel, metrics: Metrics) -> None:
        self.metrics = metrics
        self._call = channel.unary_unary(
            ROUTE,
            request_serializer=pb.SearchRequest.SerializeToString,
            response_deserializer=pb.SearchReply.FromString,
        )

    def __call__(self, left_s: float | None = 20, **told: Any) -> Any:
        metadata = (("x-request-id", "mine-1"),)
        return self._call(pb.SearchRequest(**told), timeout=left_s, metadata=metadata)

    async def error(self, left_s: float | None = 20, **told: Any) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self(left_s, **told)
        return caught.value


@pytest.fixture
async def call(doors: Doors) -> AsyncIterator[Caller]:
    async with called(doors) as caller:
        yield caller


@asynccontextmanager
async def called(doors: Doors) -> AsyncIterator[Caller]:
    service = cast(Service, SimpleNamespace(doors=doors, metrics=Metrics()))
    async with (
        serving_rpc(service, "127.0.0.1", 0) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield Caller(channel, service.metrics)


@pytest.mark.anyio
async def test_a_call_is_answered_as_the_function_answers(call: Caller, doors: Doors) -> None:
    told: dict[str, Any] = {"query": "baking", "group": "segment", "deadline_ms": 20_000}
    calling = call(**told)
    answer = await calling
    direct = await search(msgspec.convert(told, SearchRequest), doors, doors.settings)
    assert answer.hits[0].video_id == "bread"
    assert answer.hits[0].title == "Évening"
    direct = msgspec.structs.replace(direct, request_id="mine-1", stage_ms=answer_times(answer))
    assert answer == message_of(direct)
    assert dict(await calling.trailing_metadata())["x-request-id"] == "mine-1"
    assert answer.stage_ms.total > 0


def answer_times(answer: Any) -> schemas.StageTimes:
    names = schemas.StageTimes.__struct_fields__
    return schemas.StageTimes(**{name: getattr(answer.stage_ms, name) for name in names})


@pytest.mark.anyio
async def test_an_image_travels_as_bytes(call: Caller) -> None:
    answer = await call(image=picture("guitar", 0), group="segment")
    assert answer.hits[0].video_id == "guitar"


@pytest.mark.anyio
async def test_an_error_carries_its_kind_and_the_calls_id(call: Caller) -> None:
    error = await call.error(query="   ")
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "empty" in error.details()
    trailing = dict(error.trailing_metadata())
    assert (trailing["pixserve-error"], trailing["x-request-id"]) == ("invalid_request", "mine-1")


@pytest.mark.anyio
async def test_a_part_that_is_away_is_named(doors: Doors) -> None:
    away = FakeTriton(doors.bundle, error=Unavailable("triton", "triton is not ready"))
    async with called(replace(doors, triton=cast(Triton, away))) as call:
        error = await call.error(image=picture("guitar", 0))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert dict(error.trailing_metadata())["pixserve-part"] == "triton"


@pytest.mark.anyio
async def test_a_bug_is_not_told_to_the_client(
    call: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("secret of this machine")

    monkeypatch.setattr("gateway.rpc.server.search", broken)
    error = await call.error(query="baking")
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")


@pytest.mark.anyio
async def test_a_late_leg_is_left_out_before_the_calls_deadline(doors: Doors) -> None:
    slow = FakeTriton(doors.bundle, delay_s=30)
    async with called(replace(doors, triton=cast(Triton, slow))) as call:
        answer = await call(left_s=3, query="loaf", cutoff=0.0)
    assert [reason for reason in answer.degraded if reason == "speech: late"]
    assert answer.hits[0].video_id == "bread"


@pytest.mark.anyio
async def test_a_message_over_the_limit_is_refused(call: Caller) -> None:
    error = await call.error(image=bytes(MAX_MESSAGE_BYTES + 1))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.anyio
async def test_calls_are_counted_by_what_became_of_them(call: Caller) -> None:
    await call(query="baking")
    await call.error(query="")
    text = call.metrics.render({}, Cache(1)).decode()
    for status in ("200", "400"):
        label = f'method="GRPC",route="{ROUTE}",status="{status}"'
        assert f"pixserve_request_seconds_count{{{label}}} 1.0" in text


@pytest.mark.anyio
async def test_calls_that_run_are_answered_before_the_server_stops(doors: Doors) -> None:
    slow = FakeTriton(doors.bundle, delay_s=0.3)
    slow_doors = replace(doors, triton=cast(Triton, slow))
    service = cast(Service, SimpleNamespace(doors=slow_doors, metrics=Metrics()))
    async with AsyncExitStack() as clients:
        async with serving_rpc(service, "127.0.0.1", 0) as port:
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
            await clients.enter_async_context(channel)
            running = asyncio.ensure_future(
                Caller(channel, service.metrics)(query="loaf", cutoff=0.0)
            )
            async with asyncio.timeout(20):
                while not slow.calls:  # noqa: ASYNC110 (no event tells it)
                    await asyncio.sleep(0.01)
        assert (await running).hits


@pytest.mark.anyio
async def test_the_gateway_answers_on_both_ports_and_stops_well(
    milvus_uri: str, tmp_path: Path
) -> None:
    port = free_port()
    settings = gateway_settings(tmp_path, milvus_uri, rpc_port=port, search_deadline_ms=20_000)
    with running_gateway(settings) as gateway:
        # Written in a thread: the helper runs an event loop of its own.
        await asyncio.to_thread(add_searchable, settings, "bread", ["a loaf of rosewood"])
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = Caller(channel, Metrics())
            answer = await call(query="rosewood", cutoff=0.0)
            error = await call.error(query="")
        over_http = await asyncio.to_thread(
            httpx.get, f"{gateway.url}/v1/search", params={"q": "rosewood", "cutoff": 0}
        )
    assert [hit.video_id for hit in answer.hits] == ["bread"]
    assert over_http.json()["hits"][0]["score"] == answer.hits[0].score
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT

import asyncio
import http.server
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from deploy.checks import (
    Check,
    NotReady,
    database_check,
    file_check,
    gateway_check,
    milvus_check,
    protobuf_field,
    triton_check,
)
from deploy.ports import pick_free


def answer(check: Check) -> str:
    return asyncio.run(_await(check))


async def _await(check: Check) -> str:
    return await check()


@contextmanager
def grpc_server(**replies: bytes) -> Iterator[str]:
    """A gRPC server that answers these methods with these bytes; gives its address."""

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
            reply = replies.get(details.method.rpartition("/")[2])
            if reply is None:
                return None
            return grpc.unary_unary_rpc_method_handler(lambda _request, _context: reply)

    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool, handlers=[Handler()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(0).wait()


@contextmanager
def http_server(status: int, body: bytes) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@given(
    st.builds(
        service_pb2.ServerMetadataResponse,
        name=st.text(),
        version=st.text(),
        extensions=st.lists(st.text()),
    )
)
def test_a_string_field_is_read_as_protobuf_reads_it(
    message: service_pb2.ServerMetadataResponse,
) -> None:
    found = protobuf_field(message.SerializeToString(), 2)
    assert (found or b"") == message.version.encode()


@given(st.binary())
def test_bytes_that_are_no_message_are_not_ready_or_read_but_never_break(data: bytes) -> None:
    with suppress(NotReady):
        protobuf_field(data, 2)


def test_a_triton_that_has_loaded_its_models_tells_its_version() -> None:
    ready = service_pb2.ServerReadyResponse(ready=True).SerializeToString()
    facts = service_pb2.ServerMetadataResponse(version="2.51.0").SerializeToString()
    with grpc_server(ServerReady=ready, ServerMetadata=facts) as address:
        assert answer(triton_check(address)) == "2.51.0"


def test_a_triton_that_loads_models_is_not_ready() -> None:
    with (
        grpc_server(ServerReady=service_pb2.ServerReadyResponse().SerializeToString()) as address,
        pytest.raises(NotReady, match="loading models"),
    ):
        answer(triton_check(address))


def test_a_triton_that_is_not_there_is_not_ready() -> None:
    with pytest.raises(NotReady, match="unavailable"):
        answer(triton_check(f"127.0.0.1:{pick_free()}"))


@pytest.mark.live
def test_the_embedded_milvus_answers_without_a_version_of_its_own(milvus_uri: str) -> None:
    assert answer(milvus_check(milvus_uri, "2.5.1")) == "2.5.1"


def test_a_milvus_that_tells_its_version_is_believed() -> None:
    with grpc_server(GetVersion=b"\x0a\x00\x12\x05v2.6.0"[:-1]) as address:
        assert answer(milvus_check(f"http://name:password@{address}")) == "v2.6."


def test_a_milvus_that_is_not_there_is_not_ready() -> None:
    with pytest.raises(NotReady, match="unavailable"):
        answer(milvus_check(f"http://127.0.0.1:{pick_free()}"))


def test_a_gateway_that_can_answer_searches_is_ready() -> None:
    with http_server(200, b'{"status": "ready", "degraded": []}') as port:
        assert answer(gateway_check("127.0.0.1", port, "0.1.0")) == "0.1.0"


def test_a_degraded_gateway_is_ready_when_patience_is_over() -> None:
    with http_server(200, b'{"status": "degraded", "degraded": ["triton: down"]}') as port:
        with pytest.raises(NotReady, match="triton: down"):
            answer(gateway_check("127.0.0.1", port, "0.1.0"))
        assert answer(gateway_check("127.0.0.1", port, "0.1.0", patience_s=0)) == "0.1.0"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"status": "unavailable", "degraded": ["milvus: unavailable"]}', "milvus: unavailable"),
        (b'{"error": "internal", "message": "internal error"}', "internal error"),
        (b"no json", "answers 503"),
        (b"[]", "answers 503"),
    ],
)
def test_a_gateway_that_cannot_says_what_is_missing(body: bytes, reason: str) -> None:
    with http_server(503, body) as port, pytest.raises(NotReady, match=f"^{reason}$"):
        answer(gateway_check("127.0.0.1", port, "0.1.0"))


def test_a_gateway_that_is_not_there_is_not_ready() -> None:
    with pytest.raises(NotReady, match="refused"):
        answer(gateway_check("127.0.0.1", pick_free(), "0.1.0"))


def test_a_file_is_ready_when_it_is_there(tmp_path: Path) -> None:
    check = file_check(tmp_path / "mark", "0.1.0")
    with pytest.raises(NotReady):
        answer(check)
    (tmp_path / "mark").touch()
    assert answer(check) == "0.1.0"


def test_a_database_that_can_be_opened_is_ready(tmp_path: Path) -> None:
    assert answer(database_check(f"sqlite:///{tmp_path / 'catalogue.db'}"))


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/catalogue.db", "postgresql+psycopg://u:p@127.0.0.1:1/pixserve"]
)
def test_a_database_that_cannot_be_opened_is_not_ready(url: str) -> None:
    with pytest.raises(NotReady):
        answer(database_check(url))

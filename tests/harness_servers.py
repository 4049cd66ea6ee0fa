"""Small servers that behave as a gateway does, or badly, for the harness's tests: real sockets."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec

from gateway.schemas import SearchReply, StageTimes

HTML = b"<!doctype html><title>It works</title>"
Respond = Callable[[str], tuple[int, str, bytes]]  # path → status, content type, body


@contextmanager
def http_server(respond: Respond) -> Iterator[str]:
    """Answer every GET and POST as `respond` says."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, content_type, body = respond(self.path)
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 (the name that http.server prescribes)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def found(path: str) -> tuple[int, str, bytes]:
    """Answer a search with nothing, whole."""
    return searched(path, ())


def searched(_: str, degraded: tuple[str, ...]) -> tuple[int, str, bytes]:
    """Answer a search."""
    reply = SearchReply(
        hits=(),
        model_version="mini-1",
        degraded=degraded,
        stage_ms=StageTimes(total=3.0, embed=2.0, legs=1.0),
        request_id="r",
    )
    return 200, "application/json", msgspec.json.encode(reply)


def web_page(_: str) -> tuple[int, str, bytes]:
    """Answer with a page, as a wrong port does."""
    return 200, "text/html", HTML


@contextmanager
def raw_server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Give each connection to `serve`, in a thread of its own."""
    listening = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()
    threads: list[threading.Thread] = []

    def accept() -> None:
        while not ended.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=serve, args=(connection,), daemon=True)
            thread.start()
            threads.append(thread)

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        ended.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        accepting.join()
        for thread in threads:
            thread.join()


def resets(connection: socket.socket) -> None:
    """Read a little and reset the connection."""
    with connection:
        connection.recv(65_536)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def babbles(connection: socket.socket) -> None:
    """Answer with something that is not HTTP."""
    with connection:
        connection.recv(65_536)
        connection.sendall(b"220 mail.example ESMTP ready\r\n")


def says_nothing(connection: socket.socket) -> None:
    """Take requests and never answer, until the client gives up."""
    with connection:
        connection.settimeout(30)
        while connection.recv(65_536):
            continue


def free_address() -> str:
    """A URL at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"

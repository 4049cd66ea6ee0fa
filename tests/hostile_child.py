"""Functions for the sandbox that do what a decoder taken over by a hostile file might do."""

import os
import signal
import socket
import sys

import numpy as np

from gateway.errors import InvalidRequest, MediaRefused
from ingest.calls import Result, Source
from ingest.sandbox_child import main


def answer(source: Source, arguments: bytes) -> Result:
    return Result([len(source.read()), len(arguments)], (np.arange(6.0).reshape(2, 3),))


def crash(_source: Source, _arguments: bytes) -> Result:
    os.kill(os.getpid(), signal.SIGSEGV)
    return Result()


def leave(_source: Source, _arguments: bytes) -> Result:
    os._exit(7)


def hang(_source: Source, _arguments: bytes) -> Result:
    signal.pause()
    return Result()


def spin(_source: Source, _arguments: bytes) -> Result:
    while True:
        pass


def eat_memory(_source: Source, _arguments: bytes) -> Result:
    return Result(len(bytearray(10 * 1024**3)))


def talk_too_much(_source: Source, _arguments: bytes) -> Result:
    return Result(arrays=(np.zeros(10 * 1024**2, np.uint8),))


def write_garbage(source: Source, _arguments: bytes) -> Result:
    for fd in range(3, 64):
        if fd != source.fd:
            try:
                os.pwrite(fd, b"\xff" * 100, 0)
            except OSError:
                continue
    os._exit(0)


def return_odd_numbers(_source: Source, _arguments: bytes) -> Result:
    return Result(arrays=(np.zeros(4, np.complex64),))


def open_path(_source: Source, _arguments: bytes) -> Result:
    with open("/etc/hostname", "rb") as file:
        return Result(file.read())


def connect(_source: Source, arguments: bytes) -> Result:
    port = int.from_bytes(arguments[-2:], "big")
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return Result("connected")


def look_around(source: Source, _arguments: bytes) -> Result:
    """Return the environment's names and the descriptors that are open."""
    there = []
    for fd in range(64):
        try:
            os.fstat(fd)
            there.append(fd)
        except OSError:
            continue
    return Result([sorted(os.environ), there, source.fd, os.getpid(), os.getppid()])


def refuse(_source: Source, _arguments: bytes) -> Result:
    raise MediaRefused("odd", "an odd file")


def object_(_source: Source, _arguments: bytes) -> Result:
    raise InvalidRequest("not like this")


NAMES = (
    *("answer", "crash", "leave", "hang", "spin", "eat_memory", "talk_too_much"),
    *("write_garbage", "return_odd_numbers", "open_path", "connect", "look_around", "refuse"),
    "object_",
)

if __name__ == "__main__":
    main(int(sys.argv[1]), {name: f"tests.hostile_child:{name}" for name in NAMES})

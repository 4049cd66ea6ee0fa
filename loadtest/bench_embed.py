"""`embed_query` through Triton beside the bare ONNX Runtime sessions, in one run.

Every text goes both ways, one after the other, so that whatever else the machine does falls on
both. The floor is what a program with the models in its own process would pay: tokenize, CLIP text,
sentence, one after the other, on as many threads as Triton's encoders have.
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

from ensembles.arrays import FloatArray
from ensembles.build import machine_cores
from ensembles.bundle import Bundle, bundle_folder
from ensembles.contracts import bucket
from ensembles.pbtxt import thread_budget
from gateway.triton import Triton
from loadtest.stats import Latencies, latencies

WARM_UP = 50
TIMEOUT_S = 10.0


class EmbedReport(msgspec.Struct, frozen=True):
    """The times of both ways."""

    triton_query: Latencies  # embed_query: both towers
    bare_query: Latencies
    triton_text: Latencies  # embed_text: the sentence encoder alone
    bare_text: Latencies
    least_cosine: float  # between the two ways' vectors


class BareEncoders:
    """The bundle's text encoders in this process."""

    def __init__(self, models_dir: Path, bundle: Bundle) -> None:
        folder = bundle_folder(models_dir, bundle.profile, bundle.version)
        self._limits = {"clip": bundle.dims.clip_tokens, "sentence": bundle.dims.sentence_tokens}
        self._sessions = {
            "clip": _session(folder / "clip_text"),
            "sentence": _session(folder / "sentence"),
        }
        self._tokenizers = {
            name: Tokenizer.from_file(str(folder / "tokenize" / f"{name}.json"))
            for name in self._sessions
        }
        self._prefix = json.loads((folder / "tokenize" / "tokenize.json").read_text())
        for name, tokenizer in self._tokenizers.items():
            tokenizer.no_padding()
            tokenizer.enable_truncation(self._limits[name])

    def embed(self, encoder: str, text: str) -> FloatArray:
        """Tokenize one query and run one encoder: (width,)."""
        prefix = self._prefix["query_prefix"] if encoder == "sentence" else ""
        row = self._tokenizers[encoder].encode(prefix + text)
        row.pad(bucket(len(row.ids), self._limits[encoder]))
        feed = {
            f"{encoder.upper()}_IDS": np.array([row.ids]),
            f"{encoder.upper()}_MASK": np.array([row.attention_mask]),
        }
        embedding: FloatArray = self._sessions[encoder].run(None, feed)[0][0]
        return embedding


def _session(folder: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = thread_budget(machine_cores()).query
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])


async def bench_embed(
    address: str,
    models_dir: Path,
    bundle: Bundle,
    texts: Sequence[str],
    progress: Callable[[int, int], None],
) -> EmbedReport:
    """Time each text both ways, one client.

    Args:
        address: Triton's, HOST:PORT.
        models_dir: of the data folder.
        bundle: whose encoders.
        texts: the queries, each used once a way; the first ones warm up and are not counted.
        progress: told of texts done and in all.
    """
    triton = Triton(address, bundle)
    bare = BareEncoders(models_dir, bundle)

    async def triton_query(text: str) -> list[FloatArray]:
        embeddings = await triton.embed_query(text, timeout_s=TIMEOUT_S)
        return [embeddings.clip, embeddings.sentence]

    async def bare_query(text: str) -> list[FloatArray]:
        return [bare.embed("clip", text), bare.embed("sentence", text)]

    async def triton_text(text: str) -> list[FloatArray]:
        return [(await triton.embed_text([text], "query", timeout_s=TIMEOUT_S))[0]]

    async def bare_text(text: str) -> list[FloatArray]:
        return [bare.embed("sentence", text)]

    ways = (triton_query, bare_query, triton_text, bare_text)
    times: dict[str, list[float]] = {way.__name__: [] for way in ways}
    least_cosine = 1.0
    for done, text in enumerate(texts):
        vectors = {}
        for way in ways:
            start = time.perf_counter()
            vectors[way.__name__] = await way(text)
            times[way.__name__].append(time.perf_counter() - start)
        pairs = zip(vectors["triton_query"], vectors["bare_query"], strict=True)
        least_cosine = min(least_cosine, *(float(served @ own) for served, own in pairs))
        progress(done + 1, len(texts))
    await triton.close()
    summaries = {name: latencies(seconds[WARM_UP:]) for name, seconds in times.items()}
    return EmbedReport(**summaries, least_cosine=least_cosine)

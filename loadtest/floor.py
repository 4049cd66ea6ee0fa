"""The floor under every measurement: a bundle's encoders in this process, without a server.

It is what a program with the models of its own would pay. Sessions are opened as Triton's encoder
backend opens them, on as many threads as the served model has.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort

from ensembles.arrays import FloatArray
from ensembles.build import machine_cores
from ensembles.bundle import Bundle, bundle_folder
from ensembles.contracts import TEXT_MODELS, TextEncoder
from ensembles.pbtxt import QUERY_MODELS, thread_budget
from ensembles.tokens import BucketTokenizer, TokenArray

QUERY_ENCODERS: tuple[TextEncoder, ...] = ("clip", "sentence")  # what embed_query runs
TOWERS = {encoder: TEXT_MODELS[encoder] for encoder in QUERY_ENCODERS}


class BareEncoders:
    """The bundle's text encoders in this process."""

    def __init__(self, models_dir: Path, bundle: Bundle) -> None:
        self._sessions = {
            encoder: open_encoder(models_dir, bundle, model) for encoder, model in TOWERS.items()
        }
        self._tokenizers = {
            encoder: open_tokenizer(models_dir, bundle, encoder) for encoder in TOWERS
        }

    def embed(self, encoder: TextEncoder, text: str) -> FloatArray:
        """Tokenize one query and run one encoder: (width,)."""
        feed = self._tokenizers[encoder].encode([text], ["query"])
        embedding: FloatArray = self._sessions[encoder].run(None, feed)[0][0]
        return embedding


def padding_of(bundle: Bundle) -> dict[TextEncoder, int]:
    """Return to how many tokens a checkpoint's own processor pads each encoder's texts."""
    return {"clip": bundle.dims.clip_tokens, "sentence": 0}


def padded(feed: Mapping[str, TokenArray], tokens: int) -> dict[str, TokenArray]:
    """Return what a tokenizer gave, (n, at most `tokens`), with zeros up to that width."""
    return {
        name: np.pad(ids, ((0, 0), (0, max(0, tokens - ids.shape[1]))))
        for name, ids in feed.items()
    }


def open_tokenizer(models_dir: Path, bundle: Bundle, encoder: TextEncoder) -> BucketTokenizer:
    """Open the tokenizer of one of a bundle's text encoders."""
    folder = bundle_folder(models_dir, bundle.profile, bundle.version)
    return BucketTokenizer(folder / "tokenize", encoder)


def open_encoder(
    models_dir: Path, bundle: Bundle, model: str, threads: int | None = None
) -> ort.InferenceSession:
    """Open one of a bundle's encoders.

    Args:
        models_dir: of the data folder.
        bundle: whose encoder.
        model: its name, such as `clip_text`.
        threads: None is as many as Triton's instance has.
    """
    folder = bundle_folder(models_dir, bundle.profile, bundle.version)
    return open_session(folder / model / "model.onnx", threads or served_threads(model))


def open_session(path: Path, threads: int) -> ort.InferenceSession:
    """Open an ONNX file on the processor, without threads that spin."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def served_threads(model: str) -> int:
    """Return how many threads Triton's instance of an encoder has on this machine."""
    budget = thread_budget(machine_cores())
    return budget.query if model in QUERY_MODELS else budget.ingest

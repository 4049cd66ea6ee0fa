"""A search as it is mostly built: encode in the web process, ask Milvus, answer. All synchronous.

    python -m loadtest.peers.plain_server --data-dir DIR --port PORT

The weights and the collection are those of the stack of the data folder. Both text towers run in
torch, in fp32, the CLIP text padded to its limit as the checkpoint's processor does; one query of
the visual collection, titles by the catalogue. No other leg, no cache, no deadline.
"""

import argparse
import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import uvicorn
from litestar import Litestar, get
from pymilvus import MilvusClient
from torch import nn

from ensembles.arrays import FloatArray
from ensembles.bundle import Bundle
from ensembles.contracts import TextEncoder
from ensembles.tokens import BucketTokenizer
from export.checkpoints import NOWHERE, find_sources
from export.encoders import encoder_builders
from export.profiles import find_profile
from gateway.catalogue.catalogue import Catalogue
from gateway.index.schema import collection_name
from gateway.settings import Settings
from loadtest.floor import TOWERS, open_tokenizer, padded, padding_of
from loadtest.harness.place import Place
from loadtest.stack import MeasuredStack, find_stack, measured_bundle

LIMIT = 10  # hits of a reply


@dataclass(frozen=True)
class Tower:
    """A text tower in torch."""

    module: nn.Module
    tokenizer: BucketTokenizer
    least_tokens: int  # padded to

    def embed(self, text: str) -> FloatArray:
        """Return the unit vector of a text: (width,)."""
        feed = self.tokenizer.encode([text], ["query"])
        ids_and_mask = map(torch.from_numpy, padded(feed, self.least_tokens).values())
        with torch.inference_mode():
            return cast(FloatArray, self.module(*ids_and_mask)[0].numpy())


def open_towers(stack: MeasuredStack, bundle: Bundle) -> dict[TextEncoder, Tower]:
    """Build both text towers of a bundle in torch, with the weights that it was exported from."""
    profile = find_profile(bundle.profile)
    sources = find_sources(profile, NOWHERE, random_weights=bundle.random_weights)
    builders = encoder_builders(profile, sources.weights)
    limits = padding_of(bundle)
    return {
        encoder: Tower(
            builders[model]().eval(),
            open_tokenizer(stack.models_dir, bundle, encoder),
            limits[encoder],
        )
        for encoder, model in TOWERS.items()
    }


def make_app(stack: MeasuredStack, milvus_uri: str, bundle: Bundle) -> Litestar:
    """Make the web application; `milvus_uri` is the stack's engine."""
    towers = open_towers(stack, bundle)
    milvus = MilvusClient(uri=milvus_uri)
    catalogue = Catalogue(Settings(data_dir=str(stack.data_dir)).database_url)
    collection = collection_name(bundle, "visual")

    @get("/v1/search", sync_to_thread=True)
    def search(q: str) -> dict[str, Any]:
        start = time.perf_counter()
        vectors = {encoder: tower.embed(q) for encoder, tower in towers.items()}
        found = milvus.search(
            collection, data=[vectors["clip"]], limit=LIMIT, output_fields=["video_id"]
        )[0]
        pix = catalogue.pix_of([hit["entity"]["video_id"] for hit in found])
        return _reply(found, pix, bundle, 1_000 * (time.perf_counter() - start))

    @get("/ready", sync_to_thread=False)
    def ready() -> dict[str, bool]:
        return {"ready": True}

    return Litestar([search, ready])


def _reply(
    found: list[dict[str, Any]], pix: dict[str, int], bundle: Bundle, total_ms: float
) -> dict[str, Any]:
    """Write as much of a search's reply as the harness reads."""
    return {
        "hits": [
            {
                "moments": [{"segment_id": str(hit["id"])}],
                "score": float(hit["distance"]),
                "pix": pix.get(hit["entity"]["video_id"], 0),
            }
            for hit in found
        ],
        "model_version": bundle.id,
        "degraded": [],
        "stage_ms": {"total": total_ms},
        "random_weights": bundle.random_weights,
    }


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    stack = find_stack(given.data_dir)
    milvus = Place(stack.gateway, data_dir=stack.data_dir).part("milvus").address
    app = make_app(stack, milvus, asyncio.run(measured_bundle(stack)))
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()

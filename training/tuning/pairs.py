"""A user's pairs of queries and segments: read, checked, and put together with the kept tokens.

A line of the file is `{"query": "a red kite", "segment": "h4kq2mzd7xw3aonb-000015000"}`; segment
ids are those that searches return.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from ensembles.arrays import FloatArray
from ensembles.bundle import Bundle, bundle_folder
from ensembles.contracts import MAX_TEXT_BYTES, TextEncoder
from ensembles.tokens import BucketTokenizer
from export.precision import run_encoder
from gateway.catalogue.catalogue import Catalogue, SegmentFacts
from gateway.errors import InvalidRequest, NotFound, TooLarge
from gateway.settings import Settings
from ingest.tokens import Tokens, read_tokens
from training.tuning.examples import Examples, TokenRows, TokenTable, token_rows

MAX_PAIRS = 1_000_000
MAX_PAIRS_BYTES = 1 << 30
MAX_LISTED = 10  # unknown segments in a message
TEXTS_AT_ONCE = 32
TOKENS_FILE = "tokens.npz"


class Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A query and a segment that it is to find."""

    query: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_BYTES)]
    segment: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,96}(?!\n)$")]


def read_pairs(path: Path) -> tuple[Pair, ...]:
    """Read a file of pairs; the same pair twice counts once.

    Raises:
        InvalidRequest: it cannot be read, is empty, or a line is no pair.
        TooLarge: it has over MAX_PAIRS pairs or MAX_PAIRS_BYTES bytes.
    """
    try:
        if path.stat().st_size > MAX_PAIRS_BYTES:
            raise TooLarge(f"{path} is larger than the {MAX_PAIRS_BYTES} bytes that are allowed")
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error
    if len(lines) > MAX_PAIRS:
        raise TooLarge(f"{path} has {len(lines)} lines, {MAX_PAIRS} are allowed: give fewer pairs")
    pairs = dict.fromkeys(
        _pair(path, number, line) for number, line in enumerate(lines, 1) if line.strip()
    )
    if not pairs:
        raise InvalidRequest(
            f'{path} is empty: a line of it is a pair, {{"query": "a red kite", "segment": "ID"}}'
        )
    return tuple(pairs)


def write_lines(path: Path, rows: Sequence[msgspec.Struct]) -> None:
    """Write a file of pairs or captions, one a line."""
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))


def load_examples(
    pairs: Sequence[Pair], bundle: Bundle, catalogue: Catalogue, settings: Settings
) -> Examples:
    """Put pairs together with their segments' tokens and their queries' embeddings.

    Args:
        pairs: of segments that the catalogue has.
        bundle: whose encoders made the tokens and embed the queries.
        catalogue: which video a segment is of.
        settings: where videos and models are.

    Raises:
        NotFound: segments that the catalogue does not have; some are listed.
        ConfigurationError: a video's tokens are missing, damaged or of another bundle.
    """
    wanted = tuple(dict.fromkeys(pair.segment for pair in pairs))
    facts = catalogue.segments(wanted)
    _check_known(wanted, facts)
    queries = tuple(dict.fromkeys(pair.query for pair in pairs))
    query_at = {query: at for at, query in enumerate(queries)}
    segment_at = {segment: at for at, segment in enumerate(wanted)}
    tokens = _read_tokens([facts[segment] for segment in wanted], bundle, settings)
    folder = bundle_folder(settings.models_dir, bundle.profile, bundle.version)
    return Examples(
        segment_ids=wanted,
        tokens=tokens,
        queries=queries,
        words=embed_queries(folder, "clip", queries),
        sentences=embed_queries(folder, "sentence", queries),
        pairs=np.array([(query_at[p.query], segment_at[p.segment]) for p in pairs], np.int64),
    )


def embed_queries(folder: Path, encoder: TextEncoder, texts: Sequence[str]) -> FloatArray:
    """Embed queries with a bundle's own files, as its ensembles do: (texts, width) unit rows.

    Args:
        folder: of the bundle.
        encoder: which of its text encoders.
        texts: at least one.
    """
    tokenizer = BucketTokenizer(folder / "tokenize", encoder)
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))  # like lengths together
    batches = [order[at : at + TEXTS_AT_ONCE] for at in range(0, len(order), TEXTS_AT_ONCE)]
    feeds = [
        tokenizer.encode([texts[at] for at in batch], ["query"] * len(batch)) for batch in batches
    ]
    model = "clip_text" if encoder == "clip" else "sentence"
    rows = run_encoder(folder / model / "model.onnx", feeds)
    embeddings = np.empty_like(rows)
    embeddings[order] = rows
    return embeddings


def _pair(path: Path, number: int, line: bytes) -> Pair:
    try:
        return msgspec.json.decode(line, type=Pair)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path}, line {number} is no pair: {error}") from error


def _check_known(wanted: Sequence[str], facts: Mapping[str, SegmentFacts]) -> None:
    unknown = [segment for segment in wanted if segment not in facts]
    if unknown:
        more = f" and {len(unknown) - MAX_LISTED} more" if len(unknown) > MAX_LISTED else ""
        raise NotFound(
            f"the catalogue does not have {len(unknown)} of {len(wanted)} segments: "
            f"{', '.join(unknown[:MAX_LISTED])}{more}; take ids that searches return"
        )


def token_table(parts: Sequence[tuple[Tokens, Mapping[int, int]]], count: int) -> TokenTable:
    """Put the tokens of videos' segments into one table.

    Args:
        parts: each video's tokens, and the table's row of each of its segments that is wanted.
        count: of rows.
    """
    kinds = ("frames", "frame"), ("audio", "audio"), ("text", "text")
    return TokenTable(*(_rows(parts, kind, singular, count) for kind, singular in kinds))


def _read_tokens(facts: Sequence[SegmentFacts], bundle: Bundle, settings: Settings) -> TokenTable:
    """Return the tokens of segments, in their order."""
    rows: dict[str, dict[int, int]] = {}  # by video: a segment's number → its row
    for row, fact in enumerate(facts):
        rows.setdefault(fact.video_id, {})[fact.index] = row
    parts = [
        (read_tokens(settings.videos_dir / video_id / TOKENS_FILE, bundle), here)
        for video_id, here in rows.items()
    ]
    return token_table(parts, len(facts))


def _rows(
    parts: Sequence[tuple[Tokens, Mapping[int, int]]], kind: str, singular: str, count: int
) -> TokenRows:
    tokens, weights, owners = [], [], []
    for video, rows in parts:
        numbers = getattr(video, f"{singular}_segments")
        mine = np.isin(numbers, list(rows))
        tokens.append(getattr(video, kind)[mine])
        weights.append(getattr(video, f"{singular}_weights")[mine])
        owners.append(np.array([rows[number] for number in numbers[mine].tolist()], np.int64))
    return token_rows(
        np.concatenate(tokens), np.concatenate(weights), np.concatenate(owners), count
    )

"""Milvus' wire format: rows and searches as protobufs, and what comes back. Pure.

Source: the `milvus-proto` messages that pymilvus carries in `pymilvus.grpc_gen`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2

from ensembles.arrays import FloatArray
from ensembles.bundle import Bundle
from gateway.errors import InvalidRequest
from gateway.index.rows import Candidate, IndexRow, VideoFields, cut, keyword_text
from gateway.index.schema import METRIC, Message, collection_name, dimension, pairs
from gateway.schemas import LegName
from gateway.search.filters import quoted

MAX_VECTOR_ERROR = 0.01  # how far from unit length a vector may be
BOUNDED = 2  # as a timestamp: read what the engine has, at most seconds old, and wait for nothing


def upsert(bundle: Bundle, leg: LegName, rows: Sequence[IndexRow]) -> Message:
    """Return the request that writes the rows of one leg.

    Raises:
        InvalidRequest: a vector that is not one of this leg's; see `checked_vector`.
    """
    columns = [
        _strings("segment_id", (row.segment_id for row in rows)),
        _strings("video_id", (row.video_id for row in rows)),
        _strings("creator_id", (row.creator_id for row in rows)),
        _strings("category", (row.category or "" for row in rows)),
        _strings("language", (row.language or "" for row in rows)),
        _tags(row.tags for row in rows),
        schema_pb2.FieldData(
            field_name="duration_s",
            type=schema_pb2.Double,
            scalars={"double_data": {"data": [row.duration_s for row in rows]}},
        ),
    ]
    if leg == "keyword":
        columns.append(_strings("transcript", (cut(row.text) for row in rows)))
        columns.append(_strings("text", (row.keywords for row in rows)))
    else:
        columns.append(_vectors(bundle, leg, rows))
    return _upsert(collection_name(bundle, leg), len(rows), columns)


def delete(name: str, expression: str) -> Message:
    """Return the request that removes the rows that a filter holds for."""
    return milvus_pb2.DeleteRequest(collection_name=name, expr=expression)


def upsert_patched(name: str, rows: Message, fields: VideoFields) -> Message:
    """Return the request that writes one video's rows back as they were read, but for a PATCH.

    Args:
        name: the collection.
        rows: the reply to a query for all of the collection's `stored_fields`.
        fields: the new values.
    """
    columns = {column.field_name: column for column in rows.fields_data}
    count = len(_values(columns["segment_id"]))
    columns["category"] = _strings("category", [fields.category or ""] * count)
    columns["language"] = _strings("language", [fields.language or ""] * count)
    columns["tags"] = _tags([fields.tags] * count)
    if "transcript" in columns:
        transcripts = _values(columns["transcript"])
        texts = (keyword_text(text, fields.title, fields.tags) for text in transcripts)
        columns["text"] = _strings("text", texts)
    return _upsert(name, count, columns.values())


def _upsert(name: str, count: int, columns: Iterable[Message]) -> Message:
    return milvus_pb2.UpsertRequest(collection_name=name, num_rows=count, fields_data=columns)


def _strings(name: str, values: Iterable[str]) -> Message:
    return schema_pb2.FieldData(
        field_name=name, type=schema_pb2.VarChar, scalars={"string_data": {"data": values}}
    )


def _tags(rows: Iterable[tuple[str, ...]]) -> Message:
    data = [schema_pb2.ScalarField(string_data={"data": tags}) for tags in rows]
    return schema_pb2.FieldData(
        field_name="tags",
        type=schema_pb2.Array,
        scalars={"array_data": {"element_type": schema_pb2.VarChar, "data": data}},
    )


def _vectors(bundle: Bundle, leg: LegName, rows: Sequence[IndexRow]) -> Message:
    size = dimension(bundle, leg)
    vectors = [row.vector(leg) for row in rows]
    checked = [checked_vector(bundle, leg, vector) for vector in vectors if vector is not None]
    return schema_pb2.FieldData(
        field_name="embedding",
        type=schema_pb2.FloatVector,
        vectors={"dim": size, "float_vector": {"data": np.concatenate(checked)}},
    )


def checked_vector(bundle: Bundle, leg: LegName, vector: FloatArray) -> FloatArray:
    """Return the vector if it is a unit float32 vector of the leg's dimension.

    Engines take wrong ones without a word, and answer nonsense ever after.

    Raises:
        InvalidRequest: another dtype or shape, a NaN or infinity, or not of unit length.
    """
    size = dimension(bundle, leg)
    if vector.dtype != np.float32 or vector.shape != (size,):
        raise InvalidRequest(
            f"the leg {leg} of {bundle.id} takes float32 vectors of shape ({size},), "
            f"got {vector.dtype} of shape {vector.shape}"
        )
    length = float(np.linalg.norm(vector))  # NaN and infinity show in the length
    if not abs(length - 1) <= MAX_VECTOR_ERROR:
        raise InvalidRequest(
            f"the leg {leg} of {bundle.id} takes vectors of length 1, got one of length {length:g}"
        )
    return vector


def search_vector(name: str, vector: FloatArray, k: int, expression: str, ef: int) -> Message:
    """Return the request for the `k` nearest segments to a vector by cosine."""
    kind = common_pb2.PlaceholderType.FloatVector
    params = {"ef": max(ef, k)}
    return _search(name, "embedding", METRIC, (kind, vector.tobytes()), k, expression, params)


def search_keyword(name: str, text: str, k: int, expression: str) -> Message:
    """Return the request for the `k` best segments for a text by BM25."""
    kind = common_pb2.PlaceholderType.VarChar
    return _search(name, "terms", "BM25", (kind, text.encode()), k, expression, {})


def _search(
    name: str,
    field: str,
    metric: str,
    query: tuple[int, bytes],
    k: int,
    expression: str,
    params: Mapping[str, int],
) -> Message:
    kind, value = query
    placeholder = common_pb2.PlaceholderValue(tag="$0", type=kind, values=[value])
    group = common_pb2.PlaceholderGroup(placeholders=[placeholder])
    return milvus_pb2.SearchRequest(
        collection_name=name,
        dsl=expression,
        dsl_type=common_pb2.BoolExprV1,
        placeholder_group=group.SerializeToString(),
        nq=1,
        output_fields=["video_id"],
        search_params=pairs(
            anns_field=field,
            topk=k,
            metric_type=metric,
            params=json.dumps(params),
            round_decimal=-1,
        ),
        consistency_level=common_pb2.Bounded,
        guarantee_timestamp=BOUNDED,
    )


def candidates(reply: Message) -> tuple[Candidate, ...]:
    """Return what a search found, best first."""
    results = reply.results
    ids = results.ids.str_id.data
    if not ids:
        return ()
    videos = _values(results.fields_data[0])
    return tuple(map(Candidate, ids, videos, results.scores))


def query(
    name: str, expression: str, fields: Sequence[str], *, after_writes: bool = False
) -> Message:
    """Return the request that reads rows by a filter.

    Args:
        name: the collection.
        expression: the filter; "": all.
        fields: the fields to read, or `count(*)`.
        after_writes: wait until all that was written before can be seen.
    """
    return milvus_pb2.QueryRequest(
        collection_name=name,
        expr=expression,
        output_fields=fields,
        consistency_level=common_pb2.Strong if after_writes else common_pb2.Bounded,
        guarantee_timestamp=0 if after_writes else BOUNDED,
    )


def page(name: str, after: str, limit: int, field: str = "video_id") -> Message:
    """Return the request for the next rows of a collection by their ids, in ascending order.

    Beside each row's id it asks for one field.

    The parameters are those of pymilvus' query iterator: with them an engine returns the smallest
    ids that the filter lets through.
    """
    request = query(name, f"segment_id > {quoted(after)}", ["segment_id", field])
    request.query_params.extend(
        pairs(limit=limit, iterator=True, reduce_stop_for_best=True, offset=0)
    )
    return request


def read_ids(reply: Message) -> list[tuple[str, str]]:
    """Return the ids of segments and of their videos that a query for both read."""
    columns = {column.field_name: _values(column) for column in reply.fields_data}
    if not columns:
        return []
    return list(zip(columns["segment_id"], columns["video_id"], strict=True))


def read_vectors(reply: Message) -> dict[str, FloatArray]:
    """Return the vectors that a query for ids of segments and embeddings read, by id."""
    columns = {column.field_name: column for column in reply.fields_data}
    if not columns:
        return {}
    vectors = columns["embedding"].vectors
    rows = np.array(vectors.float_vector.data, np.float32).reshape(-1, vectors.dim)
    return dict(zip(_values(columns["segment_id"]), rows, strict=True))


def read_strings(reply: Message) -> Sequence[str]:
    """Return the values that a query for one field of strings read."""
    return _values(reply.fields_data[0]) if reply.fields_data else ()


def read_count(reply: Message) -> int:
    """Return the number that a query for `count(*)` read."""
    return int(reply.fields_data[0].scalars.long_data.data[0])


def _values(column: Message) -> Sequence[str]:
    """Return the values of a column of strings."""
    values: Sequence[str] = column.scalars.string_data.data
    return values

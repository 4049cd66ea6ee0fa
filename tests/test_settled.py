from pathlib import Path

import pytest
from pymilvus.grpc_gen import common_pb2, milvus_pb2

from gateway.errors import Unavailable
from gateway.index.schema import LEAST_INDEXED, is_settled
from loadtest.settled import settle
from loadtest.synthetic import synthetic_bundle, synthetic_doors
from tests.gateways import NOWHERE

Index = milvus_pb2.IndexDescription
Segment = milvus_pb2.QuerySegmentInfo
SMALL = LEAST_INDEXED - 1


@pytest.mark.parametrize(
    ("pending", "segments", "expected"),
    [
        (0, [Segment(state=common_pb2.Sealed, index_name="i", num_rows=9_999)], True),
        (0, [Segment(state=common_pb2.Sealed, num_rows=SMALL)], True),
        (5, [Segment(state=common_pb2.Sealed, index_name="i", num_rows=9_999)], False),
        (0, [Segment(state=common_pb2.Growing, num_rows=SMALL)], False),
        (0, [Segment(state=common_pb2.Sealed, num_rows=LEAST_INDEXED)], False),
        (0, [], False),
    ],
)
def test_an_index_is_settled_when_nothing_is_pending_and_all_is_sealed_and_indexed(
    pending: int, segments: list[object], expected: bool
) -> None:
    described = milvus_pb2.DescribeIndexResponse(
        index_descriptions=[Index(pending_index_rows=pending)]
    )
    loaded = milvus_pb2.GetQuerySegmentInfoResponse(infos=segments)
    assert is_settled(described, loaded) is expected


@pytest.mark.anyio
async def test_the_embedded_engine_is_always_settled(milvus_uri: str, tmp_path: Path) -> None:
    async with synthetic_doors(tmp_path, milvus_uri, 80, lambda *_: None) as doors:
        await settle(milvus_uri, doors.bundle, ("speech", "visual"), timeout_s=10)


@pytest.mark.anyio
async def test_a_milvus_that_is_not_there_is_told() -> None:
    with pytest.raises(Unavailable):
        await settle(f"http://{NOWHERE}", synthetic_bundle(80), ("speech",), timeout_s=2)

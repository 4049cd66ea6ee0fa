"""What Triton counts of its own requests, by its own clock: for measurements."""

from dataclasses import dataclass

import grpc.aio
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from gateway.triton_wire import translate


@dataclass(frozen=True)
class Answered:
    """The requests that a server has answered for one model or ensemble since it started."""

    count: int
    seconds: float  # of all together, from a request's arrival until its answer is made


async def answered_so_far(address: str, model: str, *, timeout_s: float) -> Answered:
    """Read what a server counts of its own requests; two readings tell what was between them.

    Raises:
        Unavailable: the server is not reachable or does not know the model.
        DeadlineExceeded: it does not answer in time.
    """
    async with grpc.aio.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            reply = await stub.ModelStatistics(
                pb.ModelStatisticsRequest(name=model), timeout=timeout_s
            )
        except grpc.aio.AioRpcError as error:
            raise translate(error) from error
    told = [stats.inference_stats.success for stats in reply.model_stats]
    return Answered(sum(one.count for one in told), sum(one.ns for one in told) / 1e9)

"""What a forward of cross-attention costs beside full self-attention over the same tokens."""

import statistics
import time

import msgspec
import torch
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ensembles.contracts import Dimensions
from training.models import FUSION_LAYERS, fusion
from training.tuning.strategies import SelfAttention

PRODUCTION = Dimensions(
    vision=768,
    sentence=768,
    audio=768,
    fused=768,
    image_size_px=224,
    clip_tokens=77,
    sentence_tokens=384,
)
TOKENS = 64  # of frames, of sound and of text, each
WARM_UP = 3  # forwards that are not timed
SEED = 1


class Cost(msgspec.Struct, frozen=True):
    """One network's forward."""

    name: str
    depth: int  # layers
    weights: int
    gigaflops: float  # of one segment
    ms_p50: float  # of processor time a segment, within its batch


class CostReport(msgspec.Struct, frozen=True):
    """Both, measured in turns in one run."""

    segments: int  # in one forward
    repeats: int
    cross_attention: Cost
    self_attention: Cost

    @property
    def time_ratio(self) -> float:
        """The time of cross-attention over that of self-attention."""
        return self.cross_attention.ms_p50 / self.self_attention.ms_p50


@torch.no_grad()
def bench_fusion(repeats: int, segments: int) -> CostReport:
    """Time both networks in turns: 768 wide, 64 frames, 64 windows of sound, 64 texts a segment.

    Args:
        repeats: timed forwards of each.
        segments: in one forward.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measured(repeats, _tokens(segments))
    finally:
        torch.set_num_threads(threads)


def _measured(repeats: int, tokens: list[Tensor]) -> CostReport:
    torch.manual_seed(SEED)
    networks = (fusion(PRODUCTION, SEED), SelfAttention(PRODUCTION, depth=FUSION_LAYERS).eval())
    times: list[list[float]] = [[], []]
    for round_number in range(WARM_UP + repeats):
        for network, found in zip(networks, times, strict=True):
            start_s = time.process_time()  # which other processes do not lengthen
            network(*tokens)
            if round_number >= WARM_UP:
                found.append(time.process_time() - start_s)
    names = ("cross-attention", "self-attention")
    costs = [
        _cost(name, network, tokens, found)
        for name, network, found in zip(names, networks, times, strict=True)
    ]
    return CostReport(len(tokens[0]), repeats, *costs)


def cost_table(report: CostReport) -> Table:
    """Return both networks, and what one costs of the other."""
    ours, theirs = report.cross_attention, report.self_attention
    table = Table(
        title=f"one segment of 3 × {TOKENS} tokens, {PRODUCTION.fused} wide, "
        f"{report.segments} at once, one thread",
        title_justify="left",
    )
    for column in ("network", "layers", "weights", "GFLOP", "CPU ms p50"):
        table.add_column(column)
    for cost in (ours, theirs):
        table.add_row(
            cost.name,
            str(cost.depth),
            f"{cost.weights:,}",
            f"{cost.gigaflops:.3f}",
            f"{cost.ms_p50:.2f}",
        )
    table.add_row(
        "ratio", "", "", f"{ours.gigaflops / theirs.gigaflops:.3f}", f"{report.time_ratio:.3f}"
    )
    return table


def _tokens(segments: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    tokens = []
    for width in (PRODUCTION.vision, PRODUCTION.audio, PRODUCTION.sentence):
        rows = torch.randn(segments, TOKENS, width, generator=generator)
        tokens.append(nn.functional.normalize(rows, dim=-1))
        tokens.append(torch.rand(segments, TOKENS, generator=generator) + 0.5)
    return tokens


def _cost(name: str, network: nn.Module, tokens: list[Tensor], times_s: list[float]) -> Cost:
    segments = len(tokens[0])
    network.train()  # without torch's fused inference path, which the counter does not see into
    with FlopCounterMode(display=False) as counter:
        network(*tokens)
    network.eval()
    return Cost(
        name=name,
        depth=FUSION_LAYERS,
        weights=sum(weight.numel() for weight in network.parameters()),
        gigaflops=counter.get_total_flops() / segments / 1e9,
        ms_p50=statistics.median(times_s) * 1_000 / segments,
    )

"""A step in two parts on two threads: with few cores faster than two threads in each operator.

The loss of a batch needs all its embeddings, so they are made in parts, put together, and their
gradients are taken apart again (Gao et al. 2021, gradient caching). Each part's gradients are
summed in a fixed order, so the result does not depend on which thread is faster.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor, nn

PARTS = 2
Part = TypeVar("Part")


class Workers:
    """The threads, and the precision that they compute in.

    Args:
        device: where the tensors are.
        exact: compute in fp32 instead of bfloat16.
    """

    def __init__(self, device: str, exact: bool = False) -> None:
        self.device = device
        self.exact = exact
        self._pool = ThreadPoolExecutor(PARTS)

    def map(
        self, work: Callable[[Part], tuple[Tensor, ...]], parts: Sequence[Part]
    ) -> list[tuple[Tensor, ...]]:
        """Run work on each part, one thread each, in the order of the parts."""

        def run(part: Part) -> tuple[Tensor, ...]:
            # The cache of cast weights is shared by all threads: which of them finds a weight there
            # would depend on who comes first, and with it the order of the sums.
            with torch.autocast(
                self.device, torch.bfloat16, enabled=not self.exact, cache_enabled=False
            ):
                return work(part)

        return list(self._pool.map(run, parts))


def backward_in_parts(
    parameters: Sequence[nn.Parameter],
    embed: Callable[[Part], tuple[Tensor, ...]],
    parts: Sequence[Part],
    loss: Callable[[Sequence[Tensor]], Tensor],
    workers: Workers,
) -> Tensor:
    """Leave the gradients of a loss over embeddings that are made in parts.

    Args:
        parameters: of what embeds; the loss's own get their gradients too.
        embed: a part to its embeddings, each (rows, width).
        parts: of the batch.
        loss: of the embeddings of all parts, put together.
        workers: one part each.

    Returns:
        The loss.
    """
    embedded = workers.map(embed, parts)
    joined = [
        torch.cat(rows).detach().float().requires_grad_() for rows in zip(*embedded, strict=True)
    ]
    total = loss(joined)
    total.backward()  # type: ignore[no-untyped-call]
    sizes = [[len(rows) for rows in column] for column in zip(*embedded, strict=True)]
    wanted = [
        torch.split(torch.as_tensor(row.grad), size)
        for row, size in zip(joined, sizes, strict=True)
    ]
    numbers = range(len(parts))

    def gradients(part: int) -> tuple[Tensor, ...]:
        outputs = [(rows, grad[part]) for rows, grad in zip(embedded[part], wanted, strict=True)]
        used = [(rows, grad.to(rows.dtype)) for rows, grad in outputs if rows.requires_grad]
        rows, grads = zip(*used, strict=True)
        found = torch.autograd.grad(rows, parameters, grads, allow_unused=True)
        return tuple(
            torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)
        )

    for parameter, *found in zip(parameters, *workers.map(gradients, numbers), strict=True):
        parameter.grad = torch.stack(found).sum(dim=0) if parameter.requires_grad else None
    return total.detach()

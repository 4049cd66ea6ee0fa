"""What cameras and codecs do to pixels, done to rendered ones. Pure."""

import torch
from torch import Tensor
from torch.nn import functional

SENSOR_NOISE = 2.5  # levels of 255
EXPOSURE = 0.08  # brightness, to both sides


def augment(pixels: Tensor, seed: int, step: int) -> Tensor:
    """Coarsen colours, blur, expose and add noise, each picture by another amount.

    Args:
        pixels: (n, 3, height, width) uint8, height and width even.
        seed: of the training run.
        step: of the training run.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    picture = pixels.float()
    grey = picture.mean(dim=1, keepdim=True)
    tint = functional.avg_pool2d(picture - grey, 2)  # as 4:2:0 keeps it
    picture = grey + functional.interpolate(tint, scale_factor=2, mode="bilinear")
    blur = functional.avg_pool2d(picture, 3, stride=1, padding=1, count_include_pad=False)
    amount = torch.rand((len(picture), 1, 1, 1), generator=generator)
    picture = torch.lerp(picture, blur, amount.square())
    gain = 1 + EXPOSURE * (2 * torch.rand((len(picture), 1, 1, 1), generator=generator) - 1)
    noise = SENSOR_NOISE * torch.randn(picture.shape, generator=generator)
    return (picture * gain + noise).round().clamp(0, 255).to(torch.uint8)

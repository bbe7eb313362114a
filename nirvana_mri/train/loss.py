"""The image loss: fastMRI's SSIM, differentiable, and a little L1."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

WINDOW = 7
K1, K2 = 0.01, 0.03


def ssim(prediction: Float[Tensor, "ny nx"], target: Float[Tensor, "ny nx"], data_range: float) -> Float[Tensor, ""]:
    """Mean SSIM over all whole 7x7 windows, with sample covariances: what ``eval.metrics`` scores, with a gradient
    (Wang 2004).
    """
    both = torch.stack([prediction, target])[:, None]
    moments = torch.cat([both, both.square(), (both[:1] * both[1:])])
    means = F.avg_pool2d(moments, WINDOW, stride=1)[:, 0]
    mean_p, mean_t, square_p, square_t, product = means
    samples = WINDOW**2
    unbiased = samples / (samples - 1)
    var_p, var_t = unbiased * (square_p - mean_p**2), unbiased * (square_t - mean_t**2)
    covariance = unbiased * (product - mean_p * mean_t)
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    top = (2 * mean_p * mean_t + c1) * (2 * covariance + c2)
    bottom = (mean_p**2 + mean_t**2 + c1) * (var_p + var_t + c2)
    return (top / bottom).mean()


def image_loss(prediction: Tensor, target: Tensor, data_range: float, l1_weight: float) -> Float[Tensor, ""]:
    """1 − SSIM plus ``l1_weight`` times the mean absolute error as a share of the target's mean."""
    # Brought to order one first: the squares of squares in SSIM must stay inside float32.
    prediction, target = prediction / data_range, target / data_range
    return 1 - ssim(prediction, target, 1.0) + l1_weight * (prediction - target).abs().mean() / target.mean()

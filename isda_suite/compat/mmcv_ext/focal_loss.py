r"""Focal losses in closed form.

With the probability :math:`p` of the true side of a decision,
:math:`FL = -\alpha (1 - p)^\gamma \log p`. N samples, C classes.

Source: Focal Loss (arXiv:1708.02002), equation 5 and appendix A for the derivative.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of every sample and class into ``output``.

    Args:
        input: (N, C) logits.
        target: (N,) class indices; C means background, for which every class is wrong.
        weight: (C,) factor of samples by their true class (background: 1), or empty.
        output: (N, C); receives the losses.
        gamma: How much easy decisions are faded out.
        alpha: Weight of the true class; the others have 1 - alpha.
    """
    is_class = _one_hot(input, target)
    logits = torch.where(is_class, input, -input).to(_accurate(input))
    loss = -(torch.sigmoid(-logits) ** gamma) * F.logsigmoid(logits)
    output.copy_(loss * _balance(is_class, alpha, loss) * _sample_weight(weight, target, input))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    r"""Write the derivative of every loss by its logit into ``grad_input``.

    With z the logit turned towards the true side, :math:`p = \sigma(z)`:
    :math:`dFL/dz = (1 - p)^\gamma (\gamma p \log p - (1 - p))`.

    Args:
        input: (N, C) logits.
        target: (N,) class indices.
        weight: (C,) or empty.
        grad_input: (N, C); receives the derivatives.
        gamma: As in the forward pass.
        alpha: As in the forward pass.
    """
    is_class = _one_hot(input, target)
    logits = torch.where(is_class, input, -input).to(_accurate(input))
    right, wrong = torch.sigmoid(logits), torch.sigmoid(-logits)
    slope = wrong**gamma * (gamma * right * F.logsigmoid(logits) - wrong)
    slope = torch.where(is_class, slope, -slope)
    grad_input.copy_(
        slope * _balance(is_class, alpha, slope) * _sample_weight(weight, target, input)
    )


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of every sample into ``output``.

    Args:
        input: (N, C) probabilities, after the softmax.
        target: (N,) class indices; a negative one makes the loss 0.
        weight: (C,) factor of samples by their true class, or empty.
        output: (N,); receives the losses.
        gamma: As above.
        alpha: Weight of all losses.
    """
    right = _true_probability(input, target)
    loss = -alpha * (1 - right) ** gamma * right.log()
    loss = loss * _sample_weight(weight, target, input)[:, 0]
    output.copy_(torch.where(target >= 0, loss, 0.0))


def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    r"""Write the derivative of every loss by the logits into ``grad_input``.

    :math:`dFL/dz_c = \alpha (1-p)^{\gamma-1} (\gamma p \log p - (1-p)) (\delta_{ct} - p_c)`.

    Args:
        input: (N, C) probabilities, after the softmax.
        target: (N,) class indices.
        weight: (C,) or empty.
        buff: (N,) scratch, receives the factor that does not depend on c.
        grad_input: (N, C); receives the derivatives.
        gamma: As in the forward pass.
        alpha: As in the forward pass.
    """
    right = _true_probability(input, target)
    wrong = 1 - right
    # For gamma < 1 and certain samples 0 ** (gamma - 1) is infinite, its product's limit is 0.
    faded = wrong.clamp(min=torch.finfo(wrong.dtype).eps) ** (gamma - 1)
    factor = alpha * faded * (gamma * right * right.log() - wrong)
    factor = factor * _sample_weight(weight, target, input)[:, 0]
    factor = torch.where(target >= 0, factor, 0.0)
    buff.copy_(factor)
    grad_input.copy_(factor[:, None] * (_one_hot(input, target).to(factor) - input))


def _accurate(tensor: Tensor) -> torch.dtype:
    """Logarithms of half precision logits are taken in float32."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _one_hot(input: Tensor, target: Tensor) -> Tensor:
    """(N, C) bool; targets outside of 0..C-1 give rows of False."""
    return target[:, None] == torch.arange(input.shape[1], device=input.device)


def _balance(is_class: Tensor, alpha: float, like: Tensor) -> Tensor:
    """Alpha where the class is the true one, in the precision of ``like``."""
    return torch.full_like(like, 1 - alpha).masked_fill(is_class, alpha)


def _sample_weight(weight: Tensor, target: Tensor, input: Tensor) -> Tensor:
    """(N, 1) factor of each sample: that of its class, 1 for background or without weights."""
    if weight.numel() == 0:
        return input.new_ones(len(input), 1)
    inside = (target >= 0) & (target < len(weight))
    chosen = weight[target.clamp(0, len(weight) - 1)]
    return torch.where(inside, chosen, 1.0)[:, None]


def _true_probability(input: Tensor, target: Tensor) -> Tensor:
    """(N,) probability of the true class, kept above 0 for the logarithm."""
    probabilities = input.to(_accurate(input))
    right = probabilities.gather(1, target.clamp(min=0)[:, None])[:, 0]
    return right.clamp(min=torch.finfo(right.dtype).tiny)

"""The uniqueness term: queries stay silent on pixels of other images."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isda_suite.layers.option_checks import require_one_of
from isda_suite.layers.query_adapter import answers_by_dot_product
from isda_suite.registry import MODELS

MODES = ('focal', 'thresholded_mean', 'bce', 'max')
# Numbers of one tensor of logits, and of rows in float32: half a megabyte and one megabyte, so
# that those of a chunk stay in the cache of a core. A GPU wants more work at once.
_CHUNK_NUMBERS = 1 << 17
_CHUNK_ROW_NUMBERS = 1 << 18
_GPU_FACTOR = 16


def weighted_focal_loss(
    logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    r"""Compute the focal loss in which alpha weighs target 0.

    .. math:: a_t \, (1 - p_t)^\gamma \, (-\log p_t), \quad a_0 = \alpha, \; a_1 = 1 - \alpha

    RetinaNet weighs the other way round, see ``alpha`` of :class:`UniquenessLoss`.

    Args:
        logits: Any shape.
        targets: Same shape, 0 or 1.
        alpha: Weight of target 0.
        gamma: Exponent.

    Returns:
        Same shape.
    """
    p = logits.sigmoid()
    wrong = targets * (1 - p) + (1 - targets) * p
    weight = targets * (1 - alpha) + (1 - targets) * alpha
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction='none')
    return weight * wrong**gamma * cross_entropy


@MODELS.register_module()
class UniquenessLoss(nn.Module):
    r"""Punish responses to pixels of other images, whose target is 0.

    ========================  ==========================================================
    ``'focal'`` (paper)       :math:`\alpha \, p^\gamma \, \mathrm{softplus}(\ell)`
    ``'bce'``                 :math:`\mathrm{softplus}(\ell)`
    ``'thresholded_mean'``    p where ``keep_from`` <= p <= ``keep_up_to``, else 0
    ``'max'``                 the largest p of all
    ========================  ==========================================================

    The mean is taken over the pixels that are allowed for a query, then over the queries.

    Args:
        mode: One of the above.
        loss_weight: Factor of the term.
        alpha: Weight of target 0. The paper does not give it; 0.25 is that of the one focal loss
            of the published code, whose convention is opposite to RetinaNet's.
        gamma: Exponent of the focal loss.
        keep_from: Responses below count as 0.
        keep_up_to: Responses above count as 0.
        temperature: Logits are divided by it.
        ignore_above: In the focal mode, responses above this are left out of the sum.
        scale_by_mask_loss: Multiply by the weight of the head's own mask loss.
        same_class: ``'include'``, or only pixels of the query's class (``'only'``), or none of
            them (``'exclude'``).
        max_queries: Queries of an image that take part at most, spread over its instances.
        detach: Compute the value without gradient, as the published SOLOv2 does by mistake.

    Raises:
        ModelConfigError: for an unknown ``mode`` or ``same_class``.

    Source: IUQ (arXiv:2210.00911), inter-image uniqueness.
    """

    def __init__(
        self,
        mode: str = 'focal',
        loss_weight: float = 1.0,
        alpha: float = 0.25,
        gamma: float = 2.0,
        keep_from: float | None = None,
        keep_up_to: float | None = None,
        temperature: float = 1.0,
        ignore_above: float | None = None,
        scale_by_mask_loss: bool = True,
        same_class: str = 'include',
        max_queries: int = 256,
        detach: bool = False,
    ) -> None:
        super().__init__()
        for name, value, known in (
            ('mode', mode, MODES),
            ('same_class', same_class, ('include', 'only', 'exclude')),
        ):
            require_one_of(f'uniqueness.{name}', value, known)
        self.mode = mode
        self.loss_weight = loss_weight
        self.alpha = alpha
        self.gamma = gamma
        self.keep_from = keep_from
        self.keep_up_to = keep_up_to
        self.temperature = temperature
        self.ignore_above = ignore_above
        self.scale_by_mask_loss = scale_by_mask_loss
        self.same_class = same_class
        self.max_queries = max_queries
        self.detach = detach

    def elements(self, logits: Tensor) -> Tensor:
        """Compute the loss of every single response; same shape, not weighted."""
        logits = logits if self.temperature == 1 else logits / self.temperature
        if self.mode == 'bce':
            return F.softplus(logits)
        p = logits.sigmoid()
        if self.mode == 'focal':
            loss = self.alpha * p**self.gamma * F.softplus(logits)
            if self.ignore_above is not None:
                loss = loss * (p.detach() <= self.ignore_above)
            return loss
        return p * self._kept(p)

    def forward(self, logits: Tensor) -> Tensor:
        """Compute the term of responses that are all allowed.

        Args:
            logits: (N, ...) of N queries.

        Returns:
            A scalar, weight included; 0 and connected to the logits without any.
        """
        if logits.numel() == 0:
            return logits.sum() * 0
        values = self.elements(logits.float())
        return self.loss_weight * (values.max() if self.mode == 'max' else values.mean())

    def on_rows(
        self,
        queries: Tensor,
        rows: Tensor,
        allowed: Tensor,
        respond: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """Sum over queries the mean over their allowed rows, in chunks; not weighted.

        Args:
            queries: (N, Q), with gradient.
            rows: (P, D), without; any floating type.
            allowed: (P,) or (N, P) bool.
            respond: As :meth:`isda_suite.layers.query_adapter.QueryAdapter.respond`.

        Returns:
            A scalar in float32.
        """
        queries = queries.float()
        if self.mode == 'max':
            logits = respond(queries, rows.float())
            p = self.elements(logits).flatten(2).amax(-1) if logits.dim() > 2 else None
            p = self.elements(logits) if p is None else p
            return (p * allowed).amax(dim=1).sum()
        return _ChunkedSum.apply(queries, rows, allowed, respond, self)  # type: ignore[no-untyped-call]

    def values_and_slopes(self, logits: Tensor, scratch: 'Scratch') -> tuple[Tensor, Tensor]:
        r"""Compute :meth:`elements` and its derivative in closed form; not for the mode ``'max'``.

        With :math:`s = \mathrm{softplus}(\ell)` the derivative of the focal form is
        :math:`\alpha \, p^\gamma \, (\gamma (1 - p) s + p)`.

        Args:
            logits: Any shape, without gradient.
            scratch: Where the results live until its next use.

        Returns:
            Two tensors of the same shape.
        """
        size = logits.shape
        if self.temperature != 1:
            logits = torch.div(logits, self.temperature, out=scratch.take('logits', size))
        p = torch.sigmoid(logits, out=scratch.take('p', size))
        slopes = scratch.take('slopes', size)
        if self.mode == 'thresholded_mean':
            values = p.mul_(self._kept(p))
            torch.addcmul(p, p, p, value=-1, out=slopes)
        else:
            values = torch.ops.aten.softplus.out(logits, out=scratch.take('softplus', size))
            if self.mode == 'bce':
                slopes.copy_(p)
            else:
                kept = None if self.ignore_above is None else p <= self.ignore_above
                torch.sub(p.new_ones(()), p, out=slopes)
                torch.addcmul(p, slopes, values, value=self.gamma, out=slopes)
                if self.gamma == 2:  # the default, in one pass over the numbers
                    factor = torch.addcmul(p.new_zeros(()), p, p, value=self.alpha, out=p)
                else:
                    factor = p.pow_(self.gamma).mul_(self.alpha)
                factor = factor if kept is None else factor.mul_(kept)
                values.mul_(factor)
                slopes.mul_(factor)
        slopes = slopes if self.temperature == 1 else slopes.div_(self.temperature)
        return values, slopes

    def _kept(self, p: Tensor) -> Tensor:
        """Tell which responses lie between the thresholds."""
        kept = torch.ones_like(p, dtype=torch.bool)
        if self.keep_from is not None:
            kept &= p >= self.keep_from
        if self.keep_up_to is not None:
            kept &= p <= self.keep_up_to
        return kept


class Scratch:
    """Memory for what every chunk computes anew.

    On a CPU the first touch of new memory costs more than the arithmetic that is done in it.

    Args:
        like: Of the type and on the device that is wanted.
    """

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.held: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Return a tensor with what was left in it; the same memory for the same name."""
        numbers = math.prod(shape)
        if name not in self.held or self.held[name].numel() < numbers:
            self.held[name] = self.like.new_empty(numbers)
        return self.held[name][:numbers].view(shape)


class _ChunkedSum(torch.autograd.Function):
    """Sum weighed losses of responses, computing the gradient of the queries on the way.

    As stored rows take no gradient, that of the queries can be summed up chunk by chunk in the
    forward pass, and no response is kept. The loss has its derivative in closed form; autograd is
    asked for that of responses which are no dot products.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        rows: Tensor,
        allowed: Tensor,
        respond: Callable[[Tensor, Tensor], Tensor],
        loss: UniquenessLoss,
    ) -> Tensor:
        wanted, n = ctx.needs_input_grad[0], len(queries)
        gradient, sums = torch.zeros_like(queries), queries.new_zeros(n)
        scratch = Scratch(queries)
        size = _chunk_size(n, rows)
        with torch.autocast(device_type=queries.device.type, enabled=False):
            for start in range(0, len(rows), size):
                held = rows[start : start + size]
                part = scratch.take('rows', held.shape).copy_(held)
                logits, pull_back = _answers(queries.detach(), part, respond, scratch, wanted)
                values, slopes = loss.values_and_slopes(logits, scratch)
                weight = _weight_of(allowed[..., start : start + size], values)
                if weight is not None:
                    values.mul_(weight)
                    slopes.mul_(weight)
                sums += values.flatten(1).sum(1)
                if wanted:
                    gradient += pull_back(slopes)
        count = allowed.sum(dim=-1).clamp(min=1)
        ctx.save_for_backward(gradient / count[..., None])
        return (sums / count).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0], None, None, None, None


def _weight_of(allowed: Tensor, values: Tensor) -> Tensor | None:
    """Return what the values (N, P, ...) of a chunk are multiplied by; None for 1.

    A row that stands for many pixels counts by their mean.
    """
    if values.dim() > 2:
        ones = [1] * (values.dim() - 2)
        share = allowed.to(values.dtype) / values[0, 0].numel()
        return share.view(-1, allowed.shape[-1], *ones)
    # On a GPU the question would stop the queue of its kernels.
    whole = allowed.device.type == 'cpu' and bool(allowed.all())
    return None if whole else allowed.to(values.dtype)


def _chunk_size(num_queries: int, rows: Tensor) -> int:
    """Choose how many rows are answered at once."""
    by_logits = _CHUNK_NUMBERS // max(num_queries, 1)
    by_rows = _CHUNK_ROW_NUMBERS // max(rows[:1].numel(), 1)
    size = max(min(by_logits, by_rows), 16)
    return size if rows.device.type == 'cpu' else _GPU_FACTOR * size


def _answers(
    queries: Tensor,
    rows: Tensor,
    respond: Callable[[Tensor, Tensor], Tensor],
    scratch: Scratch,
    wanted: bool,
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Compute responses, and the function from their gradient to that of the queries."""
    if answers_by_dot_product(respond):
        out = scratch.take('responses', (len(queries), len(rows)))
        return torch.mm(queries, rows.T, out=out), lambda slopes: slopes @ rows
    with torch.set_grad_enabled(wanted):
        leaf = queries.requires_grad_(wanted)
        logits = respond(leaf, rows)
    return logits.detach(), lambda slopes: torch.autograd.grad(logits, leaf, slopes)[0]


def spread_queries(gt_inds: Tensor, limit: int) -> Tensor:
    """Choose at most ``limit`` queries at random, equally many of all instances.

    Args:
        gt_inds: (N,) the instance of each query.
        limit: Largest number.

    Returns:
        (min(N, limit),) ascending indices.
    """
    n = len(gt_inds)
    if n <= limit:
        return torch.arange(n, device=gt_inds.device)
    shuffled = torch.randperm(n, device=gt_inds.device)
    order = shuffled[gt_inds[shuffled].argsort(stable=True)]
    sorted_inds = gt_inds[order]
    first = torch.searchsorted(sorted_inds, sorted_inds)
    turn = torch.arange(n, device=gt_inds.device) - first  # place among those of its instance
    return order[turn.argsort(stable=True)[:limit]].sort().values

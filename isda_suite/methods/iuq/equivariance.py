"""The equivariance term: queries of a transformed image find the transformed instance."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.query_adapter import QueryAdapter, QueryRecord
from isda_suite.registry import TASK_UTILS

from .geometry import Geometry
from .step import Step


@TASK_UTILS.register_module()
class Equivariance:
    r"""Compare what queries of g(I) answer to the transformed features of I with g(M).

    .. math:: L = \lambda \, L_{mask}(\langle q^g_n, g(F) \rangle, g(M_{\sigma(n)}))

    The assignment is the head's own one on g(I). Queries and features both take gradient. Note
    that it is *not* the features of g(I) that are asked.

    Args:
        transform: Config of what draws g, see :mod:`.geometry`.
        loss_weight: lambda; 3 in the paper.
        every_n: Compute the term every n-th step only, with n times less effort.
        fraction: Share of the batch that is transformed, at least one image.
        base_weight: Weight of the base loss of g(I). 0: it serves no other purpose, and what only
            it needs is not computed; 1: it is trained like one more augmented image.
        backbone_gradient: Let gradients of g(I) reach the backbone and neck.

    Raises:
        ModelConfigError: for numbers that make no sense.

    Source: IUQ (arXiv:2210.00911), transformation equivariance.
    """

    def __init__(
        self,
        transform: Mapping[str, Any],
        loss_weight: float = 3.0,
        every_n: int = 1,
        fraction: float = 1.0,
        base_weight: float = 0.0,
        backbone_gradient: bool = True,
    ) -> None:
        if every_n < 1:
            raise ModelConfigError(f'equivariance.every_n: expected at least 1, got {every_n}')
        if not 0 < fraction <= 1:
            raise ModelConfigError(f'equivariance.fraction: expected 0 < x <= 1, got {fraction}')
        self.transform = TASK_UTILS.build(transform)
        self.loss_weight = loss_weight
        self.every_n = every_n
        self.fraction = fraction
        self.base_weight = base_weight
        self.backbone_gradient = backbone_gradient

    def __call__(self, step: Step) -> dict[str, Any]:
        """Run the detector on the transformed batch and compute ``loss_equi``.

        Args:
            step: After the base loss.

        Returns:
            ``loss_equi``, and ``equi_*`` for the base loss with a ``base_weight``; nothing in
            steps that are left out.
        """
        if step.number % self.every_n:
            return {}
        count = max(int(len(step.samples) * self.fraction), 1)
        samples = step.samples[:count]
        drawn: Geometry = self.transform.draw(step.canvas_hw, samples)
        geometry = drawn.aligned(step.adapter.max_stride)
        moved = geometry.samples(samples)
        records, base = self._second_pass(step, geometry(step.inputs[:count]), moved)
        loss = equivariance_loss(step.adapter, records, step.records[:count], geometry)
        return {'loss_equi': self.loss_weight * loss, **weighted_losses(base, self.base_weight)}

    def _second_pass(
        self, step: Step, inputs: Tensor, samples: list[Any]
    ) -> tuple[list[QueryRecord], dict[str, Any]]:
        """Run the detector on g(I), for its queries alone where no base loss is wanted.

        Args:
            step: As :meth:`__call__` has it.
            inputs: (b, 3, H', W').
            samples: Those of g(I).

        Returns:
            b records, and the base losses.
        """
        adapter, detector = step.adapter, step.detector
        with _backbone(detector, self.backbone_gradient):
            if not self.base_weight:
                return adapter.record_queries(detector, inputs, samples), {}
            with adapter.record(detector, samples) as records:
                base = detector.loss(inputs, samples)  # type: ignore[operator]
            return records, base


def equivariance_loss(
    adapter: QueryAdapter,
    transformed: list[QueryRecord],
    originals: list[QueryRecord],
    geometry: Geometry,
) -> Tensor:
    """Ask the transformed features of the originals with the queries of the transformed images.

    Args:
        adapter: Of the head.
        transformed: Records of g(I): queries, assignment and targets.
        originals: Records of I: features.
        geometry: g.

    Returns:
        The head's mask loss, a scalar.
    """
    logits = [
        adapter.respond_map(moved, transform_maps(geometry, original.pixels))
        for moved, original in zip(transformed, originals, strict=True)
    ]
    return adapter.mask_loss(transformed, logits)


def transform_maps(geometry: Geometry, pixels: Any) -> Any:
    """Transform a map (C, h, w), or each of several, by its own stride."""
    if not isinstance(pixels, Tensor):
        return tuple(transform_maps(geometry, level) for level in pixels)
    strides = {side // n for side, n in zip(geometry.canvas_hw, pixels.shape[-2:], strict=True)}
    stride = strides.pop()
    if strides or stride * pixels.shape[-1] != geometry.canvas_hw[1]:
        raise ModelConfigError(
            f'equivariance: a feature map of {tuple(pixels.shape[-2:])} is no whole fraction of '
            f'the padded batch {geometry.canvas_hw}; set pad_size_divisor to the largest stride of '
            'the adapter (32, SOLQ 64) in the data_preprocessor of the detector'
        )
    return geometry(pixels, stride)


def weighted_losses(losses: dict[str, Any], weight: float) -> dict[str, Any]:
    """Rename the loss terms of a pass to ``equi_*`` and weigh them; leave the rest out."""
    return {
        f'equi_{name}': [one * weight for one in value]
        if isinstance(value, list | tuple)
        else value * weight
        for name, value in losses.items()
        if 'loss' in name
    }


@contextmanager
def _backbone(detector: nn.Module, gradient: bool) -> Iterator[None]:
    """Let the block compute features of this detector without gradient."""
    if gradient:
        yield
        return
    own, extract = vars(detector), detector.extract_feat
    own['extract_feat'] = torch.no_grad()(cast(Callable[..., Any], extract))
    try:
        yield
    finally:
        del own['extract_feat']

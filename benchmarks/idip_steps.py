"""Models, inputs and steps of IDIP and of its rival, for ``benchmarks/idip.py``."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

VARIANTS = ('ours, loop', 'ours, grouped', 'eager')
# Relative, of float32: the largest difference of a loss, and of a gradient to the largest one.
TOLERANCE = 1e-4
# Of the cases of the mask branch; instances of an image and a stage.
IMAGES, INSTANCES = 8, 20
Losses = Callable[[Tensor, Sequence[Any]], dict[str, Tensor]]


def build_model(proposals: int, batching: str = 'loop') -> Any:
    """Build the R-50 model of 80 classes with random weights."""
    from mmengine import Config
    from mmengine.registry import init_default_scope

    from isda_suite.registry import MODELS
    from isda_suite.resources import resource_root

    init_default_scope('mmdet')
    torch.manual_seed(0)
    name = 'configs/idip/idip_r50_2xb8-90k_coco.py'
    config = Config.fromfile(resource_root() / name).model
    config.backbone.init_cfg = None
    config.num_proposals = proposals
    config.roi_head.mask_head.batching = batching
    model: Any = MODELS.build(config)
    model.init_weights()
    return model.train()


def make_images(count: int, side: int) -> Tensor:
    """Make normalised images (count, 3, side, side)."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn((count, 3, side, side), generator=generator)


def make_samples(count: int, side: int, objects: int) -> list[Any]:
    """Make ground truth: ellipses, from a tenth to a half of the image wide."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing='ij')
    samples = []
    for image in range(count):
        generator = torch.Generator().manual_seed(image)
        radii = (0.05 + 0.2 * torch.rand(objects, 2, generator=generator)) * side
        centres = radii + torch.rand(objects, 2, generator=generator) * (side - 2 * radii)
        x, y = ((at[:, None, None]) for at in centres.T)
        rx, ry = ((at[:, None, None]) for at in radii.T)
        inside = ((columns - x) / rx) ** 2 + ((rows - y) / ry) ** 2 < 1
        size = (side, side)
        meta = {'img_shape': size, 'ori_shape': size, 'img_id': image}
        sample = DetDataSample(metainfo=meta)
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([centres - radii, centres + radii], dim=1),
            labels=torch.arange(objects) % 80,
            masks=BitmapMasks(list(inside.byte().numpy()), side, side),
        )
        samples.append(sample)
    return samples


def losses_of(variant: str, proposals: int) -> tuple[Any, Losses]:
    """Return a model and the function from a batch to its losses."""
    from functools import partial

    from benchmarks.rivals.idip_eager import eager_losses

    batching = 'grouped' if variant.endswith('grouped') else 'loop'
    model = build_model(proposals, batching)
    return model, partial(eager_losses, model) if variant == 'eager' else model.loss


def make_step(variant: str, proposals: int) -> Callable[[Tensor, Sequence[Any]], float]:
    """Return the function that trains a step: the same noise in every step."""
    model, losses = losses_of(variant, proposals)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-7, weight_decay=1e-4)

    def step(images: Tensor, samples: Sequence[Any]) -> float:
        torch.manual_seed(2)
        loss = torch.stack(list(losses(images, samples).values())).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        return loss.item()

    return step


def require_equal_steps(side: int = 256, proposals: int = 60) -> dict[str, float]:
    """Refuse to time a step that computes something else.

    In images large enough for statistics that are well conditioned: BatchNorm of one small box,
    whose region is all but constant, makes rounding errors hundreds of times larger.

    Returns:
        The largest relative differences of losses, gradients and running statistics.

    Raises:
        SystemExit: if one is too large.
    """
    images, samples = make_images(2, side), make_samples(2, side, 10)
    found: list[tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]] = []
    for variant in VARIANTS:
        model, losses = losses_of(variant, proposals)
        torch.manual_seed(2)
        terms = losses(images, samples)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        means = {name: b for name, b in model.named_buffers() if name.endswith('running_mean')}
        found.append((terms, grads, means))
    theirs = found.pop()
    worst = dict.fromkeys(('losses', 'gradients', 'statistics'), 0.0)
    for ours in found:
        for name, mine, other in zip(worst, ours, theirs, strict=True):
            if set(mine) != set(other):
                raise SystemExit(f'the {name} have other names; nothing was timed')
            largest = max(float(value.norm()) for value in other.values())
            gap = max(float((mine[n] - other[n]).norm()) / largest for n in other)
            worst[name] = max(worst[name], gap)
    if not all(gap < TOLERANCE for gap in worst.values()):
        raise SystemExit(f'steps differ: {worst}; nothing was timed')
    return worst


class MaskWork:
    """Inputs of the mask branch, and its masks by our code and by the rival.

    Args:
        side: Of the square images.
    """

    def __init__(self, side: int) -> None:
        generator = torch.Generator().manual_seed(3)
        self.model = build_model(INSTANCES)
        channels = self.model.neck.out_channels
        self.feats = [
            torch.randn(IMAGES, channels, side // stride, side // stride, generator=generator)
            for stride in (8, 16, 32)
        ]
        corners = torch.rand(IMAGES, INSTANCES, 2, 2, generator=generator).sort(dim=2).values
        self.boxes = list(side * corners.flatten(2))
        self.features = torch.randn(IMAGES, INSTANCES, channels, generator=generator)
        self.labels = (torch.arange(IMAGES * INSTANCES) % 80).view(IMAGES, INSTANCES)

    def ours(self, images: slice = slice(None), stages: int = 1) -> Tensor:
        """Compute the masks of some images and of equal stages at once, image after image."""
        boxes = [box.repeat(stages, 1) for box in self.boxes[images]]
        features = self.features[images].repeat(1, stages, 1).flatten(0, 1)
        labels = self.labels[images].repeat(1, stages).flatten()
        feats = [feat[images] for feat in self.feats]
        masks: Tensor = self.model.roi_head.predict_masks(feats, boxes, features, labels)
        return masks

    def eager(self, stages: int = 1) -> Tensor:
        """Compute the same masks stage by stage and image by image."""
        from benchmarks.rivals.idip_eager import eager_masks

        inputs = self.feats, self.boxes, list(self.features), list(self.labels)
        every = [eager_masks(self.model, *inputs) for _ in range(stages)]
        return torch.cat([mask for image in zip(*every, strict=True) for mask in image])


def relative_gap(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference as a share of the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())

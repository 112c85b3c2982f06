"""Draw instances: predictions beside the ground truth."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData
from numpy.typing import NDArray

from isda_suite.registry import VISUALIZERS

from .colours import Colour, class_colours
from .pictures import MIN_SIDE, beside, enlarged, with_caption, with_legend

Array = NDArray[Any]


@VISUALIZERS.register_module()
class InstanceVisualizer(DetLocalVisualizer):
    """mmdet's visualizer with class colours that never change and small images enlarged.

    Args:
        name: Name of this visualizer among mmengine's global instances.
        min_side: Images with a shorter side under this many pixels are enlarged before drawing.
        with_boxes: Whether boxes are drawn around masks.
        alpha: Opacity of the masks.
        **kwargs: Arguments of mmdet's ``DetLocalVisualizer``.
    """

    def __init__(
        self,
        name: str = 'visualizer',
        min_side: int = MIN_SIDE,
        with_boxes: bool = False,
        alpha: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, alpha=alpha, **kwargs)
        self.min_side = min_side
        self.with_boxes = with_boxes
        self._mask_colours: list[Colour] = []

    def draw_binary_masks(self, binary_masks: Array, **kwargs: Any) -> Any:
        """Draw masks in the colours of their classes, where the parent's caller varies them."""
        kwargs['colors'] = self._mask_colours
        return super().draw_binary_masks(binary_masks, **kwargs)

    def _draw_instances(
        self,
        image: Array,
        instances: InstanceData,
        classes: Sequence[str] | None,
        palette: Any,
    ) -> Array:
        image, factor = enlarged(np.ascontiguousarray(image), self.min_side)
        instances = _prepared(instances, factor, self.with_boxes)
        if not len(instances):
            return image
        count = int(instances.labels.max()) + 1
        names = [
            classes[label] if classes and label < len(classes) else f'class {label}'
            for label in range(count)
        ]
        palette = class_colours(count)
        self._mask_colours = [palette[label] for label in instances.labels]
        # The parent draws from numpy's global stream; a picture must not change what training does.
        state = np.random.get_state()
        try:
            return np.asarray(super()._draw_instances(image, instances, names, palette))
        finally:
            np.random.set_state(state)


def _masks_of(instances: InstanceData) -> Array | None:
    masks = instances.get('masks')
    if masks is None:
        return None
    if hasattr(masks, 'to_ndarray'):
        masks = masks.to_ndarray()
    elif hasattr(masks, 'detach'):
        masks = masks.detach().cpu().numpy()
    return np.asarray(masks).astype(bool)


def _prepared(instances: InstanceData, factor: int, with_boxes: bool) -> InstanceData:
    """Return what can be drawn, large ones first: without empty masks, scaled by ``factor``."""
    import torch

    labels = torch.as_tensor(np.asarray(instances.labels)).long()
    drawn = InstanceData(labels=labels)
    for key in ('scores', 'bboxes'):
        if key in instances:
            value = getattr(instances[key], 'tensor', instances[key])
            drawn[key] = torch.as_tensor(value).detach().cpu()
    if 'bboxes' in drawn:
        drawn.bboxes = drawn.bboxes.float() * factor
    masks = _masks_of(instances)
    if masks is None:
        return drawn
    if not with_boxes and 'bboxes' in drawn:
        del drawn.bboxes
    areas = masks.sum(axis=(1, 2))
    order = np.argsort(-areas, kind='stable')
    order = order[areas[order] > 0]
    drawn = drawn[torch.as_tensor(order)]
    drawn.masks = masks[order].repeat(factor, axis=1).repeat(factor, axis=2)
    return drawn


def above_threshold(instances: InstanceData, score_thr: float) -> InstanceData:
    """Return the instances with a score of at least ``score_thr``; all if they have no scores."""
    if 'scores' not in instances:
        return instances
    return instances[instances.scores >= score_thr]


def instances_of(data_info: dict[str, Any]) -> InstanceData:
    """Return the annotated instances of a data set's record, ignored regions left out.

    Args:
        data_info: What ``dataset.get_data_info(index)`` gives: ``height``, ``width`` and
            ``instances`` with ``bbox``, ``bbox_label``, ``ignore_flag`` and ``mask`` (polygons or
            RLE).

    Returns:
        ``labels``, ``bboxes`` and ``masks`` (N, height, width).
    """
    import torch
    from pycocotools import mask as coco_mask

    height, width = data_info['height'], data_info['width']
    kept = [one for one in data_info['instances'] if not one['ignore_flag'] and one.get('mask')]
    masks = np.zeros((len(kept), height, width), dtype=bool)
    for index, one in enumerate(kept):
        mask = one['mask']
        if isinstance(mask, list):
            whole = [part for part in mask if len(part) >= 6 and len(part) % 2 == 0]
            mask = coco_mask.merge(coco_mask.frPyObjects(whole, height, width))
        elif isinstance(mask['counts'], list):
            mask = coco_mask.frPyObjects(mask, height, width)
        masks[index] = coco_mask.decode(mask)
    return InstanceData(
        labels=torch.tensor([one['bbox_label'] for one in kept], dtype=torch.long),
        bboxes=torch.tensor([one['bbox'] for one in kept]).reshape(-1, 4),
        masks=masks,
    )


@functools.cache
def _shared_visualizer() -> InstanceVisualizer:
    # matplotlib keeps the figures of every visualizer until it is told to close them.
    return InstanceVisualizer()


def draw_instances(
    image: Array,
    instances: InstanceData,
    classes: Sequence[str] | None = None,
    caption: str = '',
) -> Array:
    """Draw instances over an image.

    Args:
        image: (H, W, 3) uint8, RGB.
        instances: ``labels`` and ``masks`` or ``bboxes``, maybe ``scores``.
        classes: Names of the labels.
        caption: Line of text above the picture.

    Returns:
        RGB picture; small images are enlarged.
    """
    picture = _shared_visualizer()._draw_instances(image, instances, classes, None)
    return with_caption(picture, caption) if caption else picture


def draw_side_by_side(
    image: Array,
    gt: InstanceData | None,
    pred: InstanceData | None,
    classes: Sequence[str] | None = None,
    score_thr: float = 0.3,
    title: str = '',
) -> Array:
    """Draw the ground truth on the left and the prediction on the right.

    Args:
        image: (H, W, 3) uint8, RGB.
        gt: Annotated instances, or ``None`` to leave that panel out.
        pred: Predicted instances with ``scores``, or ``None`` to leave that panel out.
        classes: Names of the labels; they make the legend.
        score_thr: Predictions with a lower score are not drawn.
        title: Put before the caption of the first panel, such as the file name.

    Returns:
        RGB picture.
    """
    panels = []
    labels: set[int] = set()
    if gt is not None:
        labels |= {int(label) for label in gt.labels}
        panels.append(
            draw_instances(image, gt, classes, f'{title} ground truth: {len(gt)}'.strip())
        )
    if pred is not None:
        shown = above_threshold(pred, score_thr)
        labels |= {int(label) for label in shown.labels}
        caption = f'prediction: {len(shown)} with score >= {score_thr:g}'
        panels.append(draw_instances(image, shown, classes, caption))
    if not panels:
        panels.append(with_caption(image, title))
    picture = beside(panels)
    if classes and labels:
        colours = class_colours(max(labels) + 1)
        known = sorted(label for label in labels if label < len(classes))
        picture = with_legend(picture, [(classes[label], colours[label]) for label in known])
    return picture

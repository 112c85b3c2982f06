"""From the last step's outputs to the detections of an image."""

import warnings
from dataclasses import dataclass

import torch
from mmcv.ops import batched_nms
from mmengine.structures import InstanceData
from torch import Tensor

from isda_suite.layers.mask_pasting import paste_into_boxes

from .options import InferenceOptions


@dataclass
class Candidates:
    """What suppression leaves of an image, best first.

    Attributes:
        boxes: (P, 4) xyxy in pixels of the network's input.
        scores: (P,).
        labels: (P,) classes.
        proposal_inds: (P,) the proposal of each; one may stand here with several classes.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    proposal_inds: Tensor

    def keep(self, index: Tensor) -> 'Candidates':
        """Return some of them: indices or a bool mask."""
        return Candidates(*(value[index] for value in vars(self).values()))


def select(
    logits: Tensor, boxes: Tensor, size_hw: tuple[int, int], options: InferenceOptions
) -> Candidates:
    """Take the best (proposal, class) pairs and suppress duplicates class by class.

    Args:
        logits: (N, K) of the last step.
        boxes: (N, 4) xyxy in pixels.
        size_hw: Size of the image without padding.
        options: Thresholds and limits.

    Returns:
        At most N candidates. Boxes that are not finite are dropped with a warning.
    """
    finite = boxes.isfinite().all(1) & logits.isfinite().all(1)
    if not bool(finite.all()):
        warnings.warn(
            f'{int((~finite).sum())} of {len(boxes)} boxes of an image are not finite and dropped',
            stacklevel=2,
        )
    places = finite.nonzero().squeeze(1)
    scores = logits[places].float().sigmoid().flatten()
    scores, inds = scores.topk(min(len(logits), len(scores)))
    num_classes = logits.shape[1]
    proposal_inds = places[inds.div(num_classes, rounding_mode='floor')]
    found = Candidates(boxes[proposal_inds].float(), scores, inds % num_classes, proposal_inds)
    if options.clip_before_mask:
        found.boxes = _clip(found.boxes, size_hw)
        found = found.keep(_has_area(found.boxes))
    found = found.keep(found.scores >= options.score_thr)
    if len(found.scores):
        nms = dict(type='nms', iou_threshold=options.nms_iou_thr)
        found = found.keep(batched_nms(found.boxes, found.scores, found.labels, nms)[1])
    return found if options.max_per_img < 0 else found.keep(slice(options.max_per_img))  # type: ignore[arg-type]


def finish(
    found: Candidates,
    mask_probs: Tensor,
    size_hw: tuple[int, int],
    out_hw: tuple[int, int],
    mask_thr: float,
) -> InstanceData:
    """Bring boxes and masks to the size wanted.

    Args:
        found: P candidates.
        mask_probs: (P, h, w) probabilities inside their boxes.
        size_hw: Size of the network's input without padding.
        out_hw: Size of the result.
        mask_thr: A pixel is foreground from here on, 0..1.

    Returns:
        ``bboxes`` (n, 4) xyxy, clipped, ``scores``, ``labels``, ``masks`` (n, height, width) bool
        and ``proposal_inds``, without what has no area inside the image.
    """
    scale = found.boxes.new_tensor([out_hw[1] / size_hw[1], out_hw[0] / size_hw[0]]).repeat(2)
    boxes = _clip(found.boxes * scale, out_hw)
    keep = _has_area(boxes)
    found, boxes = found.keep(keep), boxes[keep]
    return InstanceData(
        bboxes=boxes,
        scores=found.scores,
        labels=found.labels,
        masks=paste_into_boxes(mask_probs[keep], boxes, out_hw, mask_thr),
        proposal_inds=found.proposal_inds,
    )


def _clip(boxes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    height, width = size_hw
    x, y = boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)
    return torch.stack([x, y], dim=-1).flatten(1)


def _has_area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] > boxes[:, :2]).all(1)

"""IDIP for export: the steps of the diffusion written out, their random numbers as an input."""

from typing import Any, ClassVar, NamedTuple

import torch
from mmdet.structures.bbox import bbox_xyxy_to_cxcywh
from torch import Tensor

from isda_suite.layers.class_suppression import survivors
from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.export_form import EXPORT_FORMS, ExportForm

from .diffusion import Mixture, mixture
from .options import InferenceOptions

# Every step is a copy of the head in the graph.
MOST_STEPS = 16


class Chosen(NamedTuple):
    """Detections of an image, best first; a score of 0 is none.

    Attributes:
        scores: (P,).
        labels: (P,).
        boxes: (P, 4) xyxy in pixels of the input.
        proposal_inds: (P,).
    """

    scores: Tensor
    labels: Tensor
    boxes: Tensor
    proposal_inds: Tensor


@EXPORT_FORMS.register_module()
class IDIPExport(ExportForm):
    """Images and random numbers to scores, labels, boxes and masks inside the boxes.

    ``noise[:, 0]`` are the start boxes. The rows of ``noise[:, s]`` are used in the order in which
    the model draws them in step s: first those of the K boxes that are kept, then N - K new boxes.
    Suppression is part of the graph; a score of 0 stands for what it leaves out.

    Args:
        model: An IDIP.
        batch_size: B.

    Raises:
        ModelConfigError: for DDPM or very many steps.
    """

    detectors: ClassVar[tuple[str, ...]] = ('IDIP',)
    results: ClassVar[str] = 'box_masks'
    outputs: ClassVar[tuple[str, ...]] = ('scores', 'labels', 'boxes', 'masks')

    def __init__(self, model: Any, batch_size: int = 1) -> None:
        super().__init__(model, batch_size)
        self.options = InferenceOptions.of(model.test_cfg, model.schedule.num_steps)
        if self.options.sampling_type == 'DDPM' or self.options.sampling_steps > MOST_STEPS:
            raise ModelConfigError(
                f'test_cfg: the exported graph holds every step; at most {MOST_STEPS} of DDIM, got '
                f'{self.options.describe_sampling(model.schedule.num_steps)}: set '
                "test_cfg.sampling_type='DDIM' and fewer sampling_steps"
            )
        self.num_proposals = self.options.num_proposals or model.num_proposals
        times = model.schedule.sampling_times(self.options.sampling_steps)
        # Numbers now: a graph cannot hold what decides about its steps.
        self.steps = [
            (now, mixture(model.schedule, now, following, self.options.deterministic))
            if following >= 0
            else (now, None)
            for now, following in times
        ]

    def example_inputs(self, size_hw: tuple[int, int], seed: int = 0) -> dict[str, Tensor]:
        """Make images, sizes and noise (B, steps, N, 4)."""
        generator = torch.Generator().manual_seed(seed)
        shape = (self.batch_size, self.options.sampling_steps, self.num_proposals, 4)
        noise = torch.randn(shape, generator=generator)
        return {**super().example_inputs(size_hw, seed), 'noise': noise}

    def forward(self, images: Tensor, sizes: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        """Detect.

        Args:
            images: (B, 3, H, W) uint8 RGB; H and W are multiples of 32.
            sizes: (B, 2) int64, height and width of every image without padding.
            noise: (B, steps, N, 4) float32 of the standard normal distribution.

        Returns:
            ``scores`` (B, P) in descending order, ``labels`` (B, P) int64, ``boxes`` (B, P, 4)
            xyxy in pixels of the input, not clipped, and ``masks`` (B, P, h, w), probabilities
            across the boxes.
        """
        model, schedule = self.model, self.model.schedule
        feats = model.extract_feat(self.image_input(images, sizes))
        sides = sizes.flip(1).repeat(1, 2).float()[:, None]
        signal = noise[:, 0]
        for step, (now, mix) in enumerate(self.steps, 1):
            times = torch.full((self.batch_size,), now, device=images.device)
            last = model.roi_head(feats, schedule.to_boxes(signal) * sides, times)[-1]
            if mix is not None:
                signal = self._step_back(signal, last, sides, noise[:, step], mix)
        chosen = [
            self._select(*one) for one in zip(last.logits, last.boxes, sides[:, 0], strict=True)
        ]
        scores, labels, boxes, inds = (torch.stack(v) for v in zip(*chosen, strict=True))
        features = torch.cat([row[one] for row, one in zip(last.features, inds, strict=True)])
        masks = model.roi_head.predict_masks(feats, list(boxes), features, labels.flatten())
        return scores, labels, boxes, masks.sigmoid().unflatten(0, scores.shape)

    def _step_back(
        self, signal: Tensor, last: Any, sides: Tensor, noise: Tensor, mix: Mixture
    ) -> Tensor:
        """Compute the signal boxes (B, N, 4) of the next time, renewed ones at the end."""
        start = bbox_xyxy_to_cxcywh(last.boxes.float() / sides).clamp(0, 1)
        start = self.model.schedule.to_signal(start)
        direction = (signal - mix.root * start) / mix.rest
        moved = mix.start * start + mix.direction * direction
        kept = last.logits.float().amax(-1).sigmoid() > self.options.renewal_thr
        n = kept.shape[1]
        places = torch.arange(n, device=kept.device)
        # The kept ones first, in their order.
        order = (places + n * ~kept).topk(n, largest=False).indices
        moved = moved.gather(1, order[..., None].expand_as(moved))
        old = (places < kept.sum(1, keepdim=True))[..., None]
        return torch.where(old, moved + mix.random * noise, noise)

    def _select(self, logits: Tensor, boxes: Tensor, sides: Tensor) -> Chosen:
        """Take the best pairs of an image, without duplicates; see :func:`.postprocess.select`."""
        options = self.options
        n, classes = logits.shape
        finite = boxes.isfinite().all(1) & logits.isfinite().all(1)
        scores = torch.where(finite[:, None], logits.float().sigmoid(), -1).flatten()
        scores, places = scores.topk(n)
        labels, inds = places % classes, places // classes
        found = boxes[inds].float().nan_to_num(0, 0, 0)
        valid = (scores >= 0) & (scores >= options.score_thr)
        if options.clip_before_mask:
            found = found.clamp(min=0).minimum(sides)
            valid = valid & (found[:, 2:] > found[:, :2]).all(1)
        alive = survivors(found, scores, labels, valid, options.nms_iou_thr)
        count = n if options.max_per_img < 0 else min(options.max_per_img, n)
        best, order = torch.where(alive, scores, -1).topk(count)
        return Chosen(best.clamp(min=0), labels[order], found[order], inds[order])

    def describe(self) -> dict[str, Any]:
        """Return the thresholds and the shape of the noise."""
        return {
            'mask_thr': self.options.mask_thr,
            'score_thr': 1e-9,
            'clip_boxes': 'before',
            'noise_shape': [self.options.sampling_steps, self.num_proposals, 4],
            'seed': self.options.seed,
        }

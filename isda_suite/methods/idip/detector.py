"""IDIP, the detector: backbone, neck, diffusion of boxes, head."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import OptSampleList, SampleList
from mmengine.logging import print_log
from mmengine.structures import InstanceData
from torch import Tensor

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.option_checks import require_at_least
from isda_suite.registry import MODELS

from .diffusion import DiffusionSchedule, SamplingStep, add_noise, join_steps, sample_boxes
from .options import InferenceOptions
from .postprocess import finish, select
from .randomness import ImageNoise, draw_seed, image_key
from .targets import checked_targets

Noises = Sequence[ImageNoise]


@MODELS.register_module()
class IDIP(BaseDetector):
    """Instance segmentation as diffusion of boxes.

    Training: target boxes are made noisy up to a random time, and the head is asked for the clean
    ones. Inference: random boxes become predictions in a few steps, of which the last one counts,
    or all of them with ``test_cfg.ensemble``.

    Every image has a stream of random numbers of its own, so what is drawn for it does not depend
    on the other images of its batch. In training the stream follows from the step's seed and the
    image's id, in inference from ``test_cfg.seed`` and the id.

    Shapes: B images, N proposals, K classes, C channels.

    Args:
        backbone: Config of the backbone.
        neck: Config of the pyramid.
        roi_head: Config of :class:`IDIPHead`.
        num_proposals: N in training, and in inference unless ``test_cfg`` says another number.
        diffusion: ``num_steps`` and ``signal_scale`` of the schedule.
        train_cfg: Must be empty; the losses are options of the head.
        test_cfg: Arguments of :class:`isda_suite.methods.idip.options.InferenceOptions`.
        data_preprocessor: Config; ``pad_size_divisor`` must be 32.

    Raises:
        ModelConfigError: for an option that cannot be.

    Source: IDIP (doi 10.3233/FAIA230485).
    """

    with_bbox = True
    with_mask = True

    def __init__(
        self,
        backbone: dict[str, Any],
        neck: dict[str, Any],
        roi_head: dict[str, Any],
        num_proposals: int = 300,
        diffusion: dict[str, Any] | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: dict[str, Any] | None = None,
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        require_at_least('num_proposals', num_proposals, 1)
        if train_cfg:
            raise ModelConfigError(
                f'train_cfg: IDIP has no {", ".join(train_cfg)}; its matching and losses are '
                'options of roi_head.loss'
            )
        self.schedule = DiffusionSchedule(**(diffusion or {}))
        self.test_cfg = dict(test_cfg or {})
        InferenceOptions.of(self.test_cfg, self.schedule.num_steps)  # said now, not after training
        self._stated: InferenceOptions | None = None
        self.num_proposals = num_proposals
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(neck)
        self.roi_head = MODELS.build(roi_head)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps of the pyramid.

        Args:
            batch_inputs: (B, 3, H, W), normalised; H and W are multiples of 32.

        Returns:
            Three maps (B, C, H / s, W / s), strides s = 8, 16, 32.

        Raises:
            ModelConfigError: if H or W is no multiple of 32.
        """
        height, width = batch_inputs.shape[-2:]
        if height % 32 or width % 32:
            raise ModelConfigError(
                f'batch_inputs: height and width must be multiples of 32, got {height} x {width}; '
                'set pad_size_divisor=32 in the data_preprocessor of the model'
            )
        maps: tuple[Tensor, ...] = self.neck(self.backbone(batch_inputs))
        return maps

    def loss(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, noises: Noises | None = None
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            batch_inputs: (B, 3, H, W).
            batch_data_samples: B samples whose ``gt_instances`` hold ``labels``, ``bboxes`` and
                ``masks``; an image may have none.
            noises: Random numbers of the images, e.g. recorded ones; ``None`` draws new ones.

        Returns:
            ``loss_cls``, ``loss_bbox``, ``loss_iou``, ``loss_mask``.

        Raises:
            ModelConfigError: if the targets of an image do not fit together.
        """
        metas = [sample.metainfo for sample in batch_data_samples]
        targets = [
            checked_targets(sample.gt_instances, sample.metainfo, batch_inputs.device)
            for sample in batch_data_samples
        ]
        if noises is None:
            seed = draw_seed()
            noises = [ImageNoise(seed, image_key(meta, i)) for i, meta in enumerate(metas)]
        sizes = [_size(meta) for meta in metas]
        noisy = [
            add_noise(gt.bboxes, size, self.num_proposals, noise, self.schedule)
            for gt, size, noise in zip(targets, sizes, noises, strict=True)
        ]
        boxes = torch.stack([image_boxes for image_boxes, _ in noisy])
        times = torch.tensor([time for _, time in noisy], device=boxes.device)
        feats = self.extract_feat(batch_inputs)
        stages = self.roi_head(feats, boxes, times)
        losses: dict[str, Tensor] = self.roi_head.loss(feats, stages, targets, sizes)
        return losses

    @torch.no_grad()
    def sample(
        self,
        feats: Sequence[Tensor],
        metas: Sequence[dict[str, Any]],
        noises: Noises | None = None,
    ) -> Iterator[SamplingStep]:
        """Denoise the boxes of a batch, step by step.

        Args:
            feats: Maps of :meth:`extract_feat`.
            metas: B dicts with ``img_shape`` and ``img_id``.
            noises: Random numbers of the images; ``None`` takes those that ``test_cfg`` says.

        Yields:
            Every step; the last one is the result.
        """
        options = InferenceOptions.of(self.test_cfg, self.schedule.num_steps)

        def head(boxes: Tensor, times: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            last = self.roi_head(feats, boxes, times)[-1]
            return last.logits, last.boxes, last.features

        yield from sample_boxes(
            head,
            [_size(meta) for meta in metas],
            self.image_noises(metas) if noises is None else noises,
            options.num_proposals or self.num_proposals,
            self.schedule,
            options,
            feats[0].device,
        )

    def image_noises(self, metas: Sequence[dict[str, Any]]) -> list[ImageNoise]:
        """Make the streams of random numbers that inference takes for some images."""
        options = InferenceOptions.of(self.test_cfg, self.schedule.num_steps)
        if options.randomness == 'global':
            return [ImageNoise() for _ in metas]
        return [ImageNoise(options.seed, image_key(meta)) for meta in metas]

    def predict(
        self,
        batch_inputs: Tensor,
        batch_data_samples: SampleList,
        rescale: bool = True,
        noises: Noises | None = None,
    ) -> SampleList:
        """Detect the instances of a batch.

        Args:
            batch_inputs: (B, 3, H, W).
            batch_data_samples: B samples with ``img_shape``, ``ori_shape`` and ``img_id``.
            rescale: Results at the size of the original image instead of the network's input.
            noises: Random numbers of the images, e.g. recorded ones.

        Returns:
            The samples with ``pred_instances``, best first: ``bboxes`` (n, 4) xyxy, ``scores``,
            ``labels``, ``masks`` (n, h, w) bool, ``proposal_inds``; in an ensemble proposal p of
            step s is number s * N + p.
        """
        metas = [sample.metainfo for sample in batch_data_samples]
        self._state_randomness()
        feats = self.extract_feat(batch_inputs)
        options = InferenceOptions.of(self.test_cfg, self.schedule.num_steps)
        steps = self.sample(feats, metas, noises)
        step = join_steps(list(steps)) if options.ensemble else deque(steps, maxlen=1).pop()
        found = self.decode(feats, step, metas, rescale)
        return self.add_pred_to_datasample(batch_data_samples, found)

    def _state_randomness(self) -> None:
        """Write into the log what the next results depend on, once for every choice of options."""
        options = InferenceOptions.of(self.test_cfg, self.schedule.num_steps)
        if options == self._stated:
            return
        self._stated = options
        source = (
            f'seed {options.seed} and the ids of the images'
            if options.randomness == 'image'
            else "torch's global generator"
        )
        print_log(
            f'IDIP: {options.num_proposals or self.num_proposals} random boxes an image from '
            f'{source}; {options.describe_sampling(self.schedule.num_steps)}',
            logger='current',
        )

    def decode(
        self,
        feats: Sequence[Tensor],
        step: SamplingStep,
        metas: Sequence[dict[str, Any]],
        rescale: bool = True,
    ) -> list[InstanceData]:
        """Turn a step into detections; any step will do, the last one is the result.

        Args:
            feats: Maps of :meth:`extract_feat`.
            step: A step of :meth:`sample`, or several joined.
            metas: B dicts with ``img_shape`` and ``ori_shape``.
            rescale: See :meth:`predict`.

        Returns:
            B instances.
        """
        options = InferenceOptions.of(self.test_cfg, self.schedule.num_steps)
        sizes = [_size(meta) for meta in metas]
        chosen = [
            select(*image, options) for image in zip(step.logits, step.boxes, sizes, strict=True)
        ]
        features = torch.cat(
            [row[one.proposal_inds] for row, one in zip(step.features, chosen, strict=True)]
        )
        probs = self.roi_head.predict_masks(
            feats, [one.boxes for one in chosen], features, torch.cat([c.labels for c in chosen])
        ).sigmoid()
        parts = probs.split([len(one.labels) for one in chosen])
        outs = [tuple(m['ori_shape'][:2]) if rescale else _size(m) for m in metas]
        return [
            finish(*image, options.mask_thr)
            for image in zip(chosen, parts, sizes, outs, strict=True)
        ]

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the network once, for counting operations: random boxes at the last time.

        Returns:
            Class logits (B, N, K), boxes (B, N, 4) and one mask of every proposal (B·N, h, w).
        """
        feats = self.extract_feat(batch_inputs)
        size_hw = (batch_inputs.shape[-2], batch_inputs.shape[-1])
        signal = ImageNoise(0).normal(self.num_proposals).to(batch_inputs)
        boxes = self.schedule.to_boxes(signal, size_hw).expand(len(batch_inputs), -1, -1)
        times = torch.full((len(boxes),), self.schedule.num_steps - 1, device=boxes.device)
        last = self.roi_head(feats, boxes, times)[-1]
        masks = self.roi_head.predict_masks(
            feats, list(last.boxes), last.features.flatten(0, 1), last.logits.argmax(-1).flatten()
        )
        return last.logits, last.boxes, masks


def _size(meta: dict[str, Any]) -> tuple[int, int]:
    height, width = meta['img_shape'][:2]
    return int(height), int(width)

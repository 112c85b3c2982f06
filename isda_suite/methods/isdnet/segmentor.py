"""ISDNet, the segmentor: pyramid and shallow branch at full size, deep branch at a quarter."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.dist import get_world_size
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample
from mmseg.utils import add_prefix
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.option_checks import require_one_of
from isda_suite.registry import MODELS

from .exact_tiles import ExactTiles
from .postprocess import class_map
from .pyramid import LaplacianPyramid

DEEP_SAMPLINGS = ('nearest', 'bilinear', 'area', 'pyramid')
SR_TARGETS = ('residuals', 'image')
MIN_SIDE = 8


class Encoded(NamedTuple):
    """Features of both branches.

    Attributes:
        stages: Maps of the backbone, for the auxiliary head.
        deep_feat: F_d, the feature of the deep head before its classifier.
        shallow: S8 and S16.
        residuals: (B, 3 * levels, H, W), input of the shallow branch.
    """

    stages: tuple[Tensor, ...]
    deep_feat: Tensor
    shallow: tuple[Tensor, Tensor]
    residuals: Tensor


@MODELS.register_module()
class ISDNet(EncoderDecoder):
    """Segment very large images in one pass.

    A deep network sees the image reduced four times, a shallow one the residuals of its Laplacian
    pyramid at full size; two relation-aware blocks fuse them. Predictions hold class indices only;
    ``test_cfg.keep_logits=True`` adds the logits.

    Shapes: B images of H x W pixels, any size from 8 x 8.

    Args:
        shallow_branch: Config of the shallow branch.
        refine_head: Config of the head that fuses.
        num_levels: Residuals of the pyramid.
        deep_ratio: How many times the deep branch's input is smaller.
        deep_sampling: How it is reduced: ``'nearest'`` pixel (published, aliases), ``'bilinear'``,
            ``'area'``, or ``'pyramid'``: the rest of the pyramid, as the paper's figure shows.
        odd_sides: See :class:`LaplacianPyramid`.
        sr_target: What super-resolution rebuilds: ``'residuals'`` (published), or the ``'image'``.
        test_cfg: ``mode`` (``'whole'`` or ``'slide'``), ``keep_logits``.
        **kwargs: As mmseg's ``EncoderDecoder``; ``decode_head`` is the deep head, with
            ``_forward_feature``.

    Raises:
        ModelConfigError: for unknown options, or parts that do not fit each other.

    Source: ISDNet (CVPR 2022).
    """

    def __init__(
        self,
        *,
        shallow_branch: dict[str, Any],
        refine_head: dict[str, Any],
        num_levels: int = 2,
        deep_ratio: int = 4,
        deep_sampling: str = 'nearest',
        odd_sides: str = 'crop',
        sr_target: str = 'residuals',
        test_cfg: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        require_one_of('deep_sampling', deep_sampling, DEEP_SAMPLINGS)
        require_one_of('sr_target', sr_target, SR_TARGETS)
        if deep_sampling == 'pyramid' and deep_ratio != 2**num_levels:
            raise ModelConfigError(
                f"deep_sampling='pyramid' reduces {2**num_levels} times with num_levels="
                f'{num_levels}, got deep_ratio={deep_ratio}'
            )
        test_cfg = ConfigDict({'mode': 'whole', 'keep_logits': False, **(test_cfg or {})})
        super().__init__(test_cfg=test_cfg, **kwargs)
        self.deep_ratio = deep_ratio
        self.deep_sampling = deep_sampling
        self.sr_target = sr_target
        self.pyramid = LaplacianPyramid(num_levels, odd_sides)
        self.shallow_branch = ROOT_MODELS.build(shallow_branch)
        self.refine_head = ROOT_MODELS.build(refine_head)
        self._check_parts(num_levels)

    def _check_parts(self, num_levels: int) -> None:
        if self.shallow_branch.in_channels != 3 * num_levels:
            raise ModelConfigError(
                f'shallow_branch.in_channels: {num_levels} residuals have {3 * num_levels} '
                f'channels, got {self.shallow_branch.in_channels}'
            )
        heads = {'decode_head': self.decode_head, 'refine_head': self.refine_head}
        if self.with_auxiliary_head:
            heads['auxiliary_head'] = self.auxiliary_head
        counts = {name: head.out_channels for name, head in heads.items()}
        if len(set(counts.values())) > 1 or self.out_channels == 1:
            raise ModelConfigError(
                f'num_classes: all heads predict the same classes, at least two, got {counts}'
            )

    def deep_input(self, images: Tensor, rest: Tensor) -> Tensor:
        """Reduce images (B, 3, H, W) to the deep branch's (B, 3, H // 4, W // 4).

        Args:
            images: The images.
            rest: Low-pass rest of their pyramid.
        """
        if self.deep_sampling == 'pyramid':
            return rest.to(images.dtype)
        height, width = images.shape[-2:]
        size_hw = (height // self.deep_ratio, width // self.deep_ratio)
        # Compat: 'nearest' has no low-pass filter; deep_sampling='pyramid' or 'area' have one.
        return F.interpolate(images, size=size_hw, mode=self.deep_sampling)

    def encode(self, images: Tensor) -> Encoded:
        """Run both branches.

        Args:
            images: (B, 3, H, W), normalised.

        Raises:
            ModelConfigError: if a side is below 8 pixels.
        """
        self._require_size(images)
        residuals, rest = self.residuals(images)
        stages, deep_feat = self._deep(images, rest)
        return Encoded(stages, deep_feat, self.shallow_branch(residuals), residuals)

    def _require_size(self, images: Tensor, names: Sequence[str] = ()) -> None:
        height, width = images.shape[-2:]
        if min(height, width) < max(MIN_SIDE, self.deep_ratio):
            place = f'{", ".join(names)}: ' if names else ''
            raise ModelConfigError(
                f'{place}images must have sides of at least {max(MIN_SIDE, self.deep_ratio)} '
                f'pixels, got {height} x {width}: enlarge or pad them'
            )

    def residuals(
        self, images: Tensor, enlarge: Callable[[int, Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute the input of the shallow branch and the low-pass rest of the pyramid.

        Args:
            images: (B, 3, H, W).
            enlarge: From a level and its residual (B, 3, h, w) to (B, 3, H, W).
        """
        parts, rest = self.pyramid(images)
        b, _, height, width = images.shape
        last = self.shallow_branch.stages[0].conv.weight.is_contiguous(
            memory_format=torch.channels_last
        )
        # In the layout of the convolution that reads it, which would copy it otherwise.
        residuals = torch.empty(
            (b, 3 * len(parts), height, width),
            dtype=parts[0].dtype,
            device=images.device,
            memory_format=torch.channels_last if last else torch.contiguous_format,
        )
        residuals[:, :3] = parts[0]
        for level, part in enumerate(parts[1:], 1):
            full = (
                enlarge(level, part)
                if enlarge
                else F.interpolate(part, (height, width), mode='bilinear')
            )
            residuals[:, 3 * level : 3 * level + 3] = full
        return residuals, rest

    def _deep(self, images: Tensor, rest: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Compute the maps of the backbone and the deep feature."""
        stages = self.extract_feat(self.deep_input(images, rest))
        return stages, self.decode_head._forward_feature(stages)

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Compute all losses.

        Args:
            inputs: (B, 3, H, W), normalised.
            data_samples: B samples with ``gt_sem_seg``, (1, H, W) int64.

        Returns:
            Scalars by name; those with ``loss`` in their name are summed.

        Raises:
            ModelConfigError: if batch normalisation would see a single value per channel.
        """
        self._require_two_values_per_channel(len(inputs))
        found = self.encode(inputs)
        deep_logits = self.decode_head.cls_seg(found.deep_feat)
        losses = add_prefix(self.decode_head.loss_by_feat(deep_logits, data_samples), 'decode')
        target = inputs if self.sr_target == 'image' else _detail(found.residuals)
        losses.update(self.refine_head.loss(found.shallow, found.deep_feat, target, data_samples))
        if self.with_auxiliary_head:
            losses.update(self._auxiliary_head_forward_train(found.stages, data_samples))
        return dict(losses)

    def _require_two_values_per_channel(self, batch_size: int) -> None:
        if batch_size > 1 or not self.training:
            return
        for name, module in self.named_modules():
            pooled = 'image_pool' in name or '.pooled.' in name
            if pooled and _normalises_alone(module):
                raise ModelConfigError(
                    f'{name} is a batch normalisation of a 1 x 1 map, which cannot train with one '
                    "image per process: set train_dataloader.batch_size=2 or more, sync_bn='torch' "
                    "with two GPUs or more, or another norm_cfg such as dict(type='GN', "
                    'num_groups=16) in all parts of the model'
                )

    def class_logits(self, images: Tensor) -> Tensor:
        """Compute (B, K, H/8, W/8) logits of images (B, 3, H, W); nothing that only trains runs."""
        self._require_size(images)
        residuals, rest = self.residuals(images)
        deep_feat = self._deep(images, rest)[1]
        feature = self.shallow_branch.stem(residuals)
        del residuals  # 24 bytes a pixel that nothing reads any more, unlike in training
        return self.refine_head(self.shallow_branch.after_stem(feature), deep_feat)

    def exact_tiles(self) -> ExactTiles:
        """Return what computes :meth:`class_logits` of an image that is too large for one pass."""
        return ExactTiles(self)

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict[str, Any]]) -> Tensor:
        """Compute (B, K, H, W) logits of images (B, 3, H, W)."""
        return F.interpolate(self.class_logits(inputs), inputs.shape[-2:], mode='bilinear')

    def predict(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        """Predict the class of every pixel of the original images.

        Args:
            inputs: (B, 3, H, W), normalised.
            data_samples: B samples with ``ori_shape`` in their metainfo; None means that nothing
                was resized or padded.

        Returns:
            B samples with ``pred_sem_seg``, (1, h, w) class indices, and ``seg_logits`` where
            ``test_cfg.keep_logits`` is set.

        Raises:
            ModelConfigError: if a side is below 8 pixels.
        """
        metas = [sample.metainfo for sample in data_samples or ()]
        self._require_size(inputs, [meta['img_path'] for meta in metas if 'img_path' in meta])
        if self.test_cfg.keep_logits:
            return list(super().predict(inputs, data_samples))
        if self.test_cfg.mode == 'slide':
            logits = self.slide_inference(inputs, [{} for _ in inputs])
        else:
            logits = self.class_logits(inputs)
        samples = data_samples or [SegDataSample() for _ in inputs]
        input_hw = (inputs.shape[-2], inputs.shape[-1])
        for sample, one in zip(samples, logits, strict=True):
            meta = sample.metainfo
            # mmseg pads at the right and at the bottom only: left, right, top, bottom.
            _, right, _, bottom = meta.get('img_padding_size', meta.get('padding_size', [0] * 4))
            output_hw = tuple(meta.get('ori_shape', input_hw)[:2])
            classes = class_map(one, input_hw, output_hw, (bottom, right))
            sample.pred_sem_seg = PixelData(data=_unflipped(classes, meta)[None])
        return samples

    def _forward(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> Tensor:
        """Compute (B, K, H, W) logits: what the original's speed measurement times."""
        return self.encode_decode(inputs, [])


def _detail(residuals: Tensor) -> Tensor:
    """Sum the residuals (B, 3 * levels, H, W) of all levels: (B, 3, H, W)."""
    b, _, height, width = residuals.shape
    return residuals.view(b, -1, 3, height, width).sum(1)


def _unflipped(classes: Tensor, meta: dict[str, Any]) -> Tensor:
    if not meta.get('flip'):
        return classes
    return classes.flip({'vertical': 0, 'horizontal': 1}[meta['flip_direction']])


def _normalises_alone(module: nn.Module) -> bool:
    shared = isinstance(module, nn.SyncBatchNorm) and get_world_size() > 1
    return isinstance(module, _BatchNorm) and module.training and not shared

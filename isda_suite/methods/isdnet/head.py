"""The refine head: fusion of spatial and context features, classifiers, training's extra parts."""

from typing import Any, NamedTuple

from mmcv.cnn import ConvModule
from mmengine.model import constant_init
from mmengine.registry import MODELS as ROOT_MODELS
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from isda_suite.layers.option_checks import require_one_of
from isda_suite.registry import MODELS

from .fusion import RelationAwareFusion
from .super_resolution import PixelPredictor, SuperResolutionDecoder

SEG_BN_INITS = ('paper', 'one')


class Fused(NamedTuple):
    """What the two fusion blocks give.

    Attributes:
        context16: C' at 1/16.
        context8: C' at 1/8.
        fused8: F at 1/8, what is classified.
    """

    context16: Tensor
    context8: Tensor
    fused8: Tensor


@MODELS.register_module()
class RefineHead(BaseDecodeHead):
    """Fuse the features of both branches and classify the pixels of the 1/8 map.

    Args:
        shallow_channels: Channels of S8 and S16.
        deep_channels: Channels of the deep feature; where they are not ``channels``, a 1 x 1
            convolution reduces them.
        channels: Channels C of everything that is fused.
        num_groups: Groups of channels that the fusion relates.
        norm_cfg: Normalisation.
        loss_recon: Config of the loss of the super-resolution picture.
        loss_distill: Config of the loss of the structure distillation.
        seg_bn_init: ``'paper'``: the initialiser of the last convolution, N(0, 0.01), takes the
            scales of the final classifier's normalisation too; ``'one'``: they start at 1.
        **kwargs: Arguments of mmseg's ``BaseDecodeHead``: ``num_classes``, ``dropout_ratio``,
            ``loss_decode``, ``ignore_index`` …

    Raises:
        ModelConfigError: if ``seg_bn_init`` is unknown or the groups do not fit the channels.

    Source: ISDNet (CVPR 2022), section 3.
    """

    def __init__(
        self,
        shallow_channels: tuple[int, int] = (256, 512),
        deep_channels: int = 128,
        channels: int = 128,
        num_groups: int = 16,
        norm_cfg: dict[str, Any] | None = None,
        loss_recon: dict[str, Any] | None = None,
        loss_distill: dict[str, Any] | None = None,
        seg_bn_init: str = 'paper',
        **kwargs: Any,
    ) -> None:
        require_one_of('refine_head.seg_bn_init', seg_bn_init, SEG_BN_INITS)
        norm_cfg = norm_cfg or dict(type='BN')
        super().__init__(channels, channels, norm_cfg=norm_cfg, **kwargs)
        self.seg_bn_init = seg_bn_init
        self.reduce = (
            nn.Identity()
            if deep_channels == channels
            else ConvModule(deep_channels, channels, 1, norm_cfg=norm_cfg)
        )
        eighth, sixteenth = shallow_channels
        common = (channels, num_groups, norm_cfg)
        self.fuse16 = RelationAwareFusion(sixteenth, channels, *common)
        self.fuse8 = RelationAwareFusion(eighth, channels, *common)
        self.conv_seg = PixelPredictor(channels, self.out_channels, norm_cfg)
        self.context_seg16 = PixelPredictor(channels, self.out_channels, norm_cfg)
        self.context_seg8 = PixelPredictor(channels, self.out_channels, norm_cfg)
        self.sr_decoder = SuperResolutionDecoder(channels, norm_cfg)
        self.loss_recon = ROOT_MODELS.build(
            loss_recon or dict(type='isda_suite.ReconstructionLoss')
        )
        self.loss_distill = ROOT_MODELS.build(
            loss_distill or dict(type='isda_suite.StructureDistillationLoss')
        )

    def init_weights(self) -> None:
        """Initialise; see ``seg_bn_init``."""
        super().init_weights()
        if self.seg_bn_init == 'one':
            # Compat: 'paper' leaves what the initialiser of `conv_seg` has drawn.
            constant_init(self.conv_seg.conv.norm, 1)

    def fuse(self, shallow: tuple[Tensor, Tensor], context: Tensor) -> Fused:
        """Fuse at 1/16, then at 1/8.

        Args:
            shallow: S8 and S16.
            context: (B, C, h, w), the deep feature, reduced.
        """
        _, context16, fused16 = self.fuse16(shallow[1], context)
        _, context8, fused8 = self.fuse8(shallow[0], fused16)
        return Fused(context16, context8, fused8)

    def forward(self, shallow: tuple[Tensor, Tensor], deep_feat: Tensor) -> Tensor:
        """Classify.

        Args:
            shallow: S8 (B, C8, H/8, W/8) and S16 (B, C16, H/16, W/16).
            deep_feat: (B, deep_channels, h, w).

        Returns:
            (B, K, H/8, W/8) logits.
        """
        return self.cls_seg(self.fuse(shallow, self.reduce(deep_feat)).fused8)

    def loss(
        self,
        shallow: tuple[Tensor, Tensor],
        deep_feat: Tensor,
        sr_target: Tensor,
        data_samples: list[SegDataSample],
    ) -> dict[str, Tensor]:
        """Compute the losses of the final classifier and of the parts that only train.

        Args:
            shallow: S8 and S16.
            deep_feat: (B, deep_channels, h, w).
            sr_target: (B, 3, H, W), what the super-resolution picture is to look like.
            data_samples: B samples with ``gt_sem_seg``.

        Returns:
            Scalars by name.
        """
        context = self.reduce(deep_feat)
        fused = self.fuse(shallow, context)
        # Compat: the auxiliary classifiers read the context features, not the fused ones.
        logits = {
            'refine': self.cls_seg(fused.fused8),
            'context8': self.context_seg8(fused.context8),
            'context16': self.context_seg16(fused.context16),
        }
        losses = {
            f'{part}.{name}': value
            for part, one in logits.items()
            for name, value in self.loss_by_feat(one, data_samples).items()
        }
        sr_feat, picture = self.sr_decoder(context)
        losses['sr.loss_recon'] = self.loss_recon(picture, sr_target)
        losses['sr.loss_distill'] = self.loss_distill(context, sr_feat)
        return losses

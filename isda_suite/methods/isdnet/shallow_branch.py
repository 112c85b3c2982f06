"""The shallow branch: the first four stages of STDC on the residuals of the pyramid."""

from typing import Any, ClassVar

import torch
from mmengine.model import Sequential
from mmseg.models.backbones import STDCNet
from mmseg.models.backbones.stdc import STDCModule
from torch import Tensor

from isda_suite.layers.option_checks import require_one_of
from isda_suite.registry import MODELS

STEM_INITS = ('tile', 'average')
_STEM = 'stages.0.conv.weight'


class STDCBlock(STDCModule):
    """mmseg's block; its forward pass makes no new list of modules, which breaks a graph."""

    def forward_cat(self, inputs: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C', h / stride, w / stride): all convolutions side by side."""
        first, *rest = self.layers
        start = first(inputs)
        x = self.downsample(start) if self.with_downsample else start
        outputs = [self.skip(start) if self.with_downsample else start]
        for layer in rest:
            x = layer(x)
            outputs.append(x)
        return torch.cat(outputs, dim=1)


@MODELS.register_module()
class ShallowBranch(STDCNet):
    """mmseg's STDC without its last stage, for inputs of any number of channels.

    A checkpoint whose first convolution has fewer input channels (ImageNet weights have three, the
    branch six) is repeated over the channels when it is loaded; entries of its last stage have no
    place here and are left out.

    Args:
        in_channels: Channels of the input, three a level of the pyramid.
        channels: Channels after the first two convolutions and the two stages.
        stdc_type: ``'STDCNet1'`` (published) or ``'STDCNet2'``.
        norm_cfg: Normalisation, of all layers.
        stem_init: ``'tile'`` repeats the weights of the first convolution as they are (published);
            ``'average'`` divides them by the number of repetitions, which keeps the size of its
            output.
        init_cfg: Initialisation, e.g. ``Pretrained`` with STDC weights.

    Raises:
        ModelConfigError: if ``stem_init`` is unknown.

    Source: ISDNet (CVPR 2022), section 3; STDC (arXiv:2104.13188).
    """

    #: Blocks and their strides; the base class knows a third stage.
    arch_settings: ClassVar[dict[str, list[tuple[int, ...]]]] = {
        name: stages[:2] for name, stages in STDCNet.arch_settings.items()
    }

    def __init__(
        self,
        in_channels: int = 6,
        channels: tuple[int, int, int, int] = (32, 64, 256, 512),
        stdc_type: str = 'STDCNet1',
        norm_cfg: dict[str, Any] | None = None,
        stem_init: str = 'tile',
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        require_one_of('shallow_branch.stem_init', stem_init, STEM_INITS)
        super().__init__(
            stdc_type,
            in_channels,
            (*channels, 0),  # the fifth number belongs to the missing stage
            bottleneck_type='cat',
            norm_cfg=norm_cfg or dict(type='BN'),
            act_cfg=dict(type='ReLU'),
            init_cfg=init_cfg,
        )
        self.stem_init = stem_init

    def _make_stage(
        self,
        in_channels: int,
        out_channels: int,
        strides: tuple[int, ...],
        norm_cfg: dict[str, Any],
        act_cfg: dict[str, Any],
        bottleneck_type: str,
    ) -> Sequential:
        """Make a stage of :class:`STDCBlock`; the base class does the same with its own."""
        options = dict(num_convs=self.num_convs, fusion_type=bottleneck_type)
        widths = (in_channels, *[out_channels] * (len(strides) - 1))
        return Sequential(
            *(
                STDCBlock(width, out_channels, stride, norm_cfg, act_cfg, **options)
                for width, stride in zip(widths, strides, strict=True)
            )
        )

    def forward(self, residuals: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the spatial features.

        Args:
            residuals: (B, in_channels, H, W).

        Returns:
            S8 (B, channels[2], H/8, W/8) and S16 (B, channels[3], H/16, W/16), sides rounded up.
        """
        return self.after_stem(self.stem(residuals))

    def stem(self, residuals: Tensor) -> Tensor:
        """Compute the feature at a quarter of the size: (B, channels[1], H/4, W/4)."""
        feature: Tensor = self.stages[1](self.stages[0](residuals))
        return feature

    def after_stem(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Compute S8 and S16 from the feature of the stem.

        The base class would keep the maps of all stages, the largest of them at half of the size.
        """
        eighth = self.stages[2](feature)
        return eighth, self.stages[3](eighth)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        name = f'{prefix}{_STEM}'
        if name in state_dict:
            state_dict[name] = self._fitted(state_dict[name])
        for unknown in [name for name in state_dict if name.startswith(f'{prefix}stages.4.')]:
            del state_dict[unknown]
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _fitted(self, stem: Tensor) -> Tensor:
        """Repeat the weight (out, in, 3, 3) of a stem with fewer channels."""
        times, rest = divmod(self.in_channels, stem.shape[1])
        if times <= 1 or rest:
            return stem  # equal, or a mismatch for the loader to report
        tiled = stem.repeat(1, times, 1, 1)
        # Compat: stem_init='average'
        return torch.div(tiled, times) if self.stem_init == 'average' else tiled

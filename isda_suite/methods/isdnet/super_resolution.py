"""What predicts values per pixel: the classifiers, and the super-resolution decoder of training."""

from typing import Any

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn


class PixelPredictor(nn.Module):
    """A 3 x 3 convolution to half of the channels, and a 1 x 1 convolution with bias.

    Not a ``BaseModule``, so that an initialisation of the module around it is the last word.

    Args:
        in_channels: Channels of the feature.
        out_channels: Values per pixel.
        norm_cfg: Normalisation.
    """

    def __init__(self, in_channels: int, out_channels: int, norm_cfg: dict[str, Any]) -> None:
        super().__init__()
        hidden = in_channels // 2
        self.conv = ConvModule(in_channels, hidden, 3, padding=1, norm_cfg=norm_cfg)
        self.predict = nn.Conv2d(hidden, out_channels, 1)

    def forward(self, feature: Tensor) -> Tensor:
        """Predict (B, out_channels, h, w) from (B, in_channels, h, w)."""
        return self.predict(self.conv(feature))


class SuperResolutionDecoder(nn.Module):
    """Rebuild a picture sixteen times larger from the deep feature; only in training.

    Args:
        channels: Channels of the deep feature and of the last one.
        norm_cfg: Normalisation.
        image_channels: Channels of the picture.

    Source: ISDNet (CVPR 2022), section 3, super-resolution.
    """

    def __init__(self, channels: int, norm_cfg: dict[str, Any], image_channels: int = 3) -> None:
        super().__init__()
        hidden = channels // 2
        self.conv1 = ConvModule(channels, hidden, 3, padding=1, norm_cfg=norm_cfg)
        self.conv2 = ConvModule(hidden, hidden, 3, padding=1, norm_cfg=norm_cfg)
        self.conv3 = ConvModule(hidden, channels, 3, padding=1, norm_cfg=norm_cfg)
        self.to_image = PixelPredictor(channels, image_channels, norm_cfg)

    def forward(self, deep_feat: Tensor) -> tuple[Tensor, Tensor]:
        """Decode.

        Args:
            deep_feat: (B, channels, h, w).

        Returns:
            The last feature (B, channels, 16 h, 16 w) and the picture (B, image_channels, 16 h,
            16 w).
        """
        feature = self.conv1(F.interpolate(deep_feat, scale_factor=4, mode='nearest'))
        feature = self.conv2(F.interpolate(feature, scale_factor=2, mode='nearest'))
        feature = self.conv3(F.interpolate(feature, scale_factor=2, mode='nearest'))
        return feature, self.to_image(feature)

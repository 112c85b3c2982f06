"""ISDNet's inference as its paper and published code describe it, in eager PyTorch.

The rival of ``benchmarks/isdnet.py``: what a careful reader would write who follows the description
step by step and does not ask what a step costs. The Gaussian filters the full picture before every
other pixel is dropped; the way up inserts zeros and filters them; the deep classifier runs although
nobody reads its result; batch normalisation stays a module of its own; logits, probabilities and
class indices exist at full size. Nothing is slower than the description asks for.

Modules carry the names of the published checkpoints, so that :func:`load_weights_of` needs nothing
but the name table of ``isda_suite.methods.isdnet.convert``.

Shapes: B images of H x W pixels, C = 128 fused channels, K classes.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FUSED = 128
_GROUPS = 16


class ConvNormAct(nn.Module):
    """Convolution without bias, batch normalisation, and ReLU where it is asked for."""

    def __init__(
        self,
        inside: int,
        outside: int,
        size: int,
        stride: int = 1,
        dilation: int = 1,
        relu: bool = True,
    ) -> None:
        super().__init__()
        padding = dilation * (size // 2)
        self.conv = nn.Conv2d(inside, outside, size, stride, padding, dilation, bias=False)
        self.bn = nn.BatchNorm2d(outside)
        self.act = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inside, h, w) to (B, outside, h / stride, w / stride)."""
        return self.act(self.bn(self.conv(x)))


class Pyramid(nn.Module):
    """The two residuals of the Laplacian pyramid."""

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        self.register_buffer('kernel', torch.outer(taps, taps), persistent=False)

    def blur(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """Filter each channel with the 5 x 5 Gaussian times ``gain``."""
        channels = x.shape[1]
        kernel = (gain * self.kernel).repeat(channels, 1, 1, 1)
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode='reflect'), kernel, groups=channels)

    def enlarge(self, x: Tensor) -> Tensor:
        """Insert zeros between the pixels and filter: (B, 3, h, w) to (B, 3, 2 h, 2 w)."""
        b, c, h, w = x.shape
        zeros = x.new_zeros(b, c, 2 * h, 2 * w)
        zeros[..., ::2, ::2] = x
        return self.blur(zeros, gain=4)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Give (B, 3, H, W) and (B, 3, ceil(H / 2), ceil(W / 2))."""
        residuals = []
        for _ in range(2):
            reduced = self.blur(image)[..., ::2, ::2]
            enlarged = self.enlarge(reduced)
            if enlarged.shape != image.shape:
                enlarged = F.interpolate(enlarged, size=image.shape[2:], mode='nearest')
            residuals.append(image - enlarged)
            image = reduced
        return residuals


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut; the first may be strided and dilated."""

    def __init__(self, inside: int, outside: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if inside != outside:
            project = nn.Conv2d(inside, outside, 1, stride, bias=False)
            self.downsample = nn.Sequential(project, nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inside, h, w) to (B, outside, h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += shortcut
        return self.relu(y)


class ResNet18(nn.Module):
    """ResNet-18 with a stem of three convolutions and an output stride of 8."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 32, 64)
        layers: list[nn.Module] = []
        for i in range(3):
            conv = nn.Conv2d(widths[i], widths[i + 1], 3, 1 + (i == 0), 1, bias=False)
            layers += [conv, nn.BatchNorm2d(widths[i + 1]), nn.ReLU(inplace=True)]
        self.stem = nn.Sequential(*layers)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _stage(64, 64, 1, 1, 1)
        self.layer2 = _stage(64, 128, 2, 1, 1)
        self.layer3 = _stage(128, 256, 1, 1, 2)
        self.layer4 = _stage(256, 512, 1, 2, 4)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Give the maps of the four stages."""
        x = self.maxpool(self.stem(x))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps


def _stage(inside: int, outside: int, stride: int, *dilations: int) -> nn.Module:
    return nn.Sequential(
        BasicBlock(inside, outside, stride, dilations[0]),
        BasicBlock(outside, outside, 1, dilations[1]),
    )


class DeepHead(nn.Module):
    """DeepLabV3's head: image pooling, one 1 x 1 and three dilated convolutions, a classifier."""

    def __init__(self, num_classes: int, inside: int = 512) -> None:
        super().__init__()
        self.image_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvNormAct(inside, _FUSED, 1))
        sizes = ((1, 1), (3, 12), (3, 24), (3, 36))
        self.aspp_modules = nn.ModuleList(
            ConvNormAct(inside, _FUSED, size, dilation=dilation) for size, dilation in sizes
        )
        self.bottleneck = ConvNormAct(5 * _FUSED, _FUSED, 3)
        self.dropout = nn.Dropout2d(0.1)
        self.conv_seg = nn.Conv2d(_FUSED, num_classes, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give the deep logits (B, K, h, w) and the deep feature (B, C, h, w)."""
        pooled = F.interpolate(self.image_pool(x), size=x.shape[2:], mode='bilinear')
        branches = [pooled] + [module(x) for module in self.aspp_modules]
        feature = self.bottleneck(torch.cat(branches, dim=1))
        return self.conv_seg(self.dropout(feature)), feature


class ShallowBlock(nn.Module):
    """Four convolutions of falling width whose results are concatenated."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        half, quarter, eighth = outside // 2, outside // 4, outside // 8
        self.conv_list = nn.ModuleList(
            [
                ConvNormAct(inside, half, 1),
                ConvNormAct(half, quarter, 3),
                ConvNormAct(quarter, eighth, 3),
                ConvNormAct(eighth, eighth, 3),
            ]
        )
        self.avd_layer = self.skip = None
        if stride == 2:
            depthwise = nn.Conv2d(half, half, 3, 2, 1, groups=half, bias=False)
            self.avd_layer = nn.Sequential(depthwise, nn.BatchNorm2d(half))
            self.skip = nn.AvgPool2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inside, h, w) to (B, outside, h / stride, w / stride)."""
        first = self.conv_list[0](x)
        x = first if self.avd_layer is None else self.avd_layer(first)
        results = [first if self.skip is None else self.skip(first)]
        for conv in self.conv_list[1:]:
            x = conv(x)
            results.append(x)
        return torch.cat(results, dim=1)


class ShallowNet(nn.Module):
    """The first four stages of STDC1 on six channels."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            ConvNormAct(6, 32, 3, 2),
            ConvNormAct(32, 64, 3, 2),
            ShallowBlock(64, 256, 2),
            ShallowBlock(256, 256, 1),
            ShallowBlock(256, 512, 2),
            ShallowBlock(512, 512, 1),
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Give the maps at 1/2, 1/4, 1/8 and 1/16."""
        half = self.features[0](x)
        quarter = self.features[1](half)
        eighth = self.features[2:4](quarter)
        sixteenth = self.features[4:6](eighth)
        return [half, quarter, eighth, sixteenth]


class ChannelAttention(nn.Module):
    """A projected feature, and one number for each of its channels."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.conv_bn_relu = ConvNormAct(inside, _FUSED, 3)
        self.conv_1x1 = ConvNormAct(_FUSED, _FUSED, 1, relu=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give (B, C, h, w) and (B, C, 1, 1)."""
        feature = self.conv_bn_relu(x)
        return feature, self.conv_1x1(F.adaptive_avg_pool2d(feature, 1))


class RelationAwareFusion(nn.Module):
    """Weigh the channels of two features by how their groups relate, and add them."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.spatial_att = ChannelAttention(inside)
        self.context_att = ChannelAttention(_FUSED)
        self.spatial_mlp, self.context_mlp = (
            nn.Sequential(
                nn.Linear(_GROUPS**2, _FUSED), nn.ReLU(), nn.Linear(_FUSED, _FUSED), nn.ReLU()
            )
            for _ in range(2)
        )
        self.context_head = ConvNormAct(_FUSED, _FUSED, 3)
        self.smooth = ConvNormAct(_FUSED, _FUSED, 3, relu=False)
        self.g1 = nn.Parameter(torch.zeros(1))
        self.g2 = nn.Parameter(torch.zeros(1))

    def forward(self, spatial: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fuse (B, inside, h, w) and (B, C, h', w') to three maps (B, C, h, w)."""
        spatial, spatial_numbers = self.spatial_att(spatial)
        context, context_numbers = self.context_att(context)
        b = len(spatial)
        rows = spatial_numbers.view(b, _GROUPS, -1)
        columns = context_numbers.view(b, _GROUPS, -1).permute(0, 2, 1)
        relation = torch.bmm(rows, columns).view(b, _GROUPS**2)
        from_spatial = self.spatial_mlp(relation).view(b, -1, 1, 1)
        from_context = self.context_mlp(relation).view(b, -1, 1, 1)
        spatial = spatial * torch.sigmoid(spatial_numbers + self.g1 * from_spatial)
        context = context * torch.sigmoid(context_numbers + self.g2 * from_context)
        context = F.interpolate(context, size=spatial.shape[2:], mode='bilinear')
        context = self.context_head(context)
        return spatial, context, self.smooth(spatial + context)


class Classifier(nn.Module):
    """A 3 x 3 convolution to half of the channels, and a 1 x 1 convolution with bias."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv_bn_relu = ConvNormAct(_FUSED, _FUSED // 2, 3)
        self.conv_out = nn.Conv2d(_FUSED // 2, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, K, h, w)."""
        return self.conv_out(self.conv_bn_relu(x))


class RefineHead(nn.Module):
    """Pyramid, shallow network, two fusions, classifier."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.pyramid = Pyramid()
        self.stdc_net = ShallowNet()
        self.fuse16 = RelationAwareFusion(512)
        self.fuse8 = RelationAwareFusion(256)
        self.dropout = nn.Dropout2d(0.1)
        self.conv_seg = Classifier(num_classes)

    def forward(self, image: Tensor, deep_feature: Tensor) -> Tensor:
        """Give (B, K, H / 8, W / 8) logits."""
        residuals = self.pyramid(image)
        size = residuals[0].shape[2:]
        coarse = F.interpolate(residuals[1], size=size, mode='bilinear')
        features = self.stdc_net(torch.cat([residuals[0], coarse], dim=1))
        _, _, fused16 = self.fuse16(features[3], deep_feature)
        _, _, fused8 = self.fuse8(features[2], fused16)
        return self.conv_seg(self.dropout(fused8))


class LiteralISDNet(nn.Module):
    """ISDNet with ResNet-18, inference only.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.backbone = ResNet18()
        self.decode_head = DeepHead(num_classes)
        self.refine_head = RefineHead(num_classes)

    def encode_decode(self, image: Tensor) -> Tensor:
        """Compute (B, K, H, W) logits of normalised images (B, 3, H, W)."""
        height, width = image.shape[2:]
        maps = self.backbone(F.interpolate(image, size=(height // 4, width // 4)))
        _deep_logits, deep_feature = self.decode_head(maps[3])
        logits = self.refine_head(image, deep_feature)
        return F.interpolate(logits, size=(height, width), mode='bilinear')

    def predict(self, image: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """Compute the classes, (B, h, w) int64, of pictures of another size."""
        logits = self.encode_decode(image)
        logits = F.interpolate(logits, size=size_hw, mode='bilinear')
        return F.softmax(logits, dim=1).argmax(dim=1)


def load_weights_of(model: Any) -> LiteralISDNet:
    """Build the literal network with the weights of an ``isda_suite.ISDNet``.

    Args:
        model: With ResNet-18 and the published widths.

    Raises:
        KeyError: if a weight is missing.
        RuntimeError: if one has another shape.
    """
    from isda_suite.checkpoint.renaming import convert_state_dict, invert
    from isda_suite.methods.isdnet.convert import ORIGINAL

    literal = LiteralISDNet(model.out_channels).eval()
    weights, _ = convert_state_dict(model.state_dict(), invert(ORIGINAL))
    literal.load_state_dict({name: weights[name] for name in literal.state_dict()})
    return literal

"""The two losses between the deep feature and the super-resolution decoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isda_suite.layers.option_checks import require_one_of
from isda_suite.registry import MODELS

NORMALISATIONS = ('channels', 'positions')
_EPS = 1e-6


@MODELS.register_module()
class ReconstructionLoss(nn.Module):
    """Mean squared error between a picture, enlarged bilinearly, and its target.

    Args:
        loss_weight: Factor of the loss.
    """

    def __init__(self, loss_weight: float = 0.1) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, picture: Tensor, target: Tensor) -> Tensor:
        """Compare (B, C, h, w) with (B, C, H, W); a scalar, the mean of all elements."""
        picture = F.interpolate(picture, size=target.shape[-2:], mode='bilinear')
        return self.loss_weight * F.mse_loss(picture.to(target.dtype), target)


@MODELS.register_module()
class StructureDistillationLoss(nn.Module):
    r"""Make positions of the deep feature relate as those of the super-resolution feature do.

    .. math:: L = \mathrm{mean} |f^T f - \mathrm{stopgrad}(r^T r)|

    f and r are (C, N) features, normalised; N counts the positions of the deep feature. The two
    N x N matrices take B N^2 floats several times over. Computed in float32 also under automatic
    mixed precision.

    Args:
        loss_weight: Factor of the loss.
        normalise: ``'channels'`` divides each channel by its norm over the positions (published);
            ``'positions'`` each position by its norm over the channels, which makes the entries
            cosines.

    Raises:
        ModelConfigError: if ``normalise`` is unknown.

    Source: ISDNet (CVPR 2022), section 3, structure distillation.
    """

    def __init__(self, loss_weight: float = 1.0, normalise: str = 'channels') -> None:
        super().__init__()
        require_one_of('loss_distill.normalise', normalise, NORMALISATIONS)
        self.loss_weight = loss_weight
        # Compat: normalise='positions'
        self.axis = {'channels': 2, 'positions': 1}[normalise]

    def forward(self, deep_feat: Tensor, sr_feat: Tensor) -> Tensor:
        """Compare features.

        Args:
            deep_feat: (B, C, h, w); the gradient reaches only this one.
            sr_feat: (B, C, h', w'), of any size.

        Returns:
            A scalar.
        """
        dtype = torch.promote_types(deep_feat.dtype, torch.float32)
        with torch.autocast(deep_feat.device.type, enabled=False):
            with torch.no_grad():
                sr_feat = F.interpolate(
                    sr_feat.to(dtype), size=deep_feat.shape[-2:], mode='bilinear'
                )
                goal = self._structure(sr_feat)
            found = self._structure(deep_feat.to(dtype))
            return self.loss_weight * F.l1_loss(found, goal)

    def _structure(self, feature: Tensor) -> Tensor:
        """Relate the N positions of (B, C, h, w) to each other: (B, N, N)."""
        flat = feature.flatten(2)
        flat = flat / (flat.norm(dim=self.axis, keepdim=True) + _EPS)
        return flat.mT @ flat

"""Defaults: the paper's method, and what the published code computed instead.

A preset is three dicts of defaults; whatever a configuration says goes before it.
"""

from collections.abc import Mapping
from typing import Any

from isda_suite.layers.option_checks import require_one_of

_FLIP = dict(type='isda_suite.FlipX')
_FLIP_OR_CROP = dict(
    type='isda_suite.OneOf',
    transforms=[
        _FLIP,
        dict(type='isda_suite.AlignedCrop'),
        dict(type='isda_suite.AlignedCrop', flip_prob=1.0),
    ],
)
# The factor 0.3 of a training step, 0.1 of the term and the weight 3 of the mask loss.
_SOLOV2_WEIGHT = 0.3 * 0.1 * 3

PRESETS: dict[str, dict[str, Any]] = {
    'paper': dict(
        memory=dict(capacity=100_000, per_instance=50),
        uniqueness=dict(mode='focal', gamma=2.0, alpha=0.25),
        equivariance=dict(transform=_FLIP_OR_CROP, loss_weight=3.0),
    ),
    'released_condinst': dict(
        memory=dict(type='isda_suite.PartnerHalf'),
        uniqueness=dict(mode='thresholded_mean', keep_up_to=0.3, loss_weight=0.1),
        equivariance=None,
    ),
    'released_solov2': dict(
        memory=dict(type='isda_suite.PastBatches', num_batches=2),
        uniqueness=dict(mode='thresholded_mean', keep_up_to=0.18, loss_weight=_SOLOV2_WEIGHT),
        equivariance=dict(type='isda_suite.SOLOv2Equivariance', loss_weight=0.3, base_weight=0.3),
    ),
    'released_mask2former': dict(
        memory=dict(type='isda_suite.Retrieval'),
        uniqueness=dict(),
        equivariance=None,
    ),
}


def settings_of(
    preset: str, **given: Mapping[str, Any] | bool | None
) -> dict[str, dict[str, Any] | None]:
    """Merge a preset with what a configuration says.

    Args:
        preset: Name of a preset.
        **given: ``memory``, ``uniqueness``, ``equivariance``: a dict of what differs, ``None`` for
            the preset's own, ``False`` to switch the term off.

    Returns:
        The three dicts, ``None`` for what is off.

    Raises:
        ModelConfigError: for an unknown preset.
    """
    require_one_of('preset', preset, tuple(PRESETS))
    merged: dict[str, dict[str, Any] | None] = {}
    for name, own in given.items():
        default = PRESETS[preset][name]
        if own is False or (own is None and default is None):
            merged[name] = None
        elif isinstance(own, Mapping):
            # Another type has other arguments than the preset's.
            other = 'type' in own and own['type'] != (default or {}).get('type')
            merged[name] = {**({} if other else default or {}), **own}
        else:
            merged[name] = dict(default)
    return merged

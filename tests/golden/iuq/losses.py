"""Formulas that belong to no base model."""

from mmdet.models.losses import DiceLoss

from isda_suite.methods.iuq.uniqueness import UniquenessLoss, weighted_focal_loss
from tests.golden.iuq.parts import tensor


def run_focal_dice(golden, case):
    """Scores and targets to the focal loss of either alpha, or to dice."""
    c, inputs = case.config, {k: tensor(v) for k, v in case.inputs().items()}
    if 'scores' in inputs:
        # The original adds its constant once to the sum, mmdet to both of its parts.
        dice = DiceLoss(use_sigmoid=True, activate=False, eps=c['dice_eps'] / 2, reduction='none')
        return {'dice': dice(inputs['scores'], inputs['targets'])}
    logits, targets = inputs['logits'], inputs['targets']
    loss = weighted_focal_loss(logits, targets, c['alpha'], c['gamma']).mean()
    if not targets.any():
        ours = UniquenessLoss(alpha=c['alpha'], gamma=c['gamma'])(logits)
        assert abs(float(ours - loss)) < 1e-6
    return {'loss': loss}


RUNNERS = {'focal_dice': run_focal_dice}

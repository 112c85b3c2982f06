"""SparseInst is no part of mmdet's package; a stand-in with its parts is trained instead."""

import pytest
import torch
from mmdet.models.losses import CrossEntropyLoss, DiceLoss
from torch import nn

from isda_suite.layers.query_adapter import find_adapter
from isda_suite.methods.iuq.adapters import SparseInstAdapter
from isda_suite.methods.iuq.equivariance import Equivariance
from isda_suite.methods.iuq.pixel_uniqueness import PixelUniqueness
from isda_suite.methods.iuq.step import Step
from tests.methods.iuq.build import batch_of


class InstanceBranch(nn.Module):
    def __init__(self):
        super().__init__()
        self.kernels = nn.Parameter(torch.randn(6, 4))

    def forward(self, x):
        kernels = self.kernels + x.mean((2, 3))[:, :1, None]
        return kernels.sum(-1, keepdim=True), kernels, kernels.mean(-1), None


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.inst_branch, self.mask_branch = InstanceBranch(), nn.Conv2d(3, 4, 8, stride=8)

    def forward(self, x):
        _, kernels, _, _ = self.inst_branch(x)
        return torch.einsum('bqc,bchw->bqhw', kernels, self.mask_branch(x))


class Matcher(nn.Module):
    def forward(self, masks, gts):
        """Give the last queries to the targets, in order."""
        return [(torch.arange(6 - len(gt), 6), torch.arange(len(gt))) for gt in gts]


class Criterion(nn.Module):
    def __init__(self, as_module):
        super().__init__()
        matcher = Matcher()
        if as_module:
            self.matcher = matcher
        else:
            self.assigner = matcher.forward
        self.loss_mask = CrossEntropyLoss(use_sigmoid=True, loss_weight=5.0)
        self.loss_dice = DiceLoss(loss_weight=2.0, naive_dice=True, eps=1e-3)

    def forward(self, masks, gts):
        pairs = (self.matcher if hasattr(self, 'matcher') else self.assigner)(masks, gts)
        return {'loss_mask': sum(m[q].sum() * 0 for m, (q, _) in zip(masks, pairs, strict=True))}


class SparseInst(nn.Module):
    def __init__(self, as_module=True):
        super().__init__()
        self.decoder, self.criterion = Decoder(), Criterion(as_module)

    def loss(self, inputs, samples):
        return self.criterion(self.decoder(inputs), [s.gt_instances for s in samples])


@pytest.mark.parametrize('as_module', [True, False], ids=['module', 'function'])
def test_kernels_of_matched_queries_are_trained(as_module):
    torch.manual_seed(0)
    model = SparseInst(as_module)
    adapter = find_adapter(model)
    assert type(adapter) is SparseInstAdapter and adapter.mask_loss_weight == 2.0
    uniqueness = PixelUniqueness(memory=dict(min_fill=1), loss={})
    equivariance = Equivariance(dict(type='isda_suite.FlipX'))
    for number in range(2):
        inputs, samples = batch_of(seed=number, first_id=2 * number)
        with adapter.record(model, samples) as records:
            model.loss(inputs, samples)
        assert [r.queries.shape for r in records] == [(3, 4), (2, 4)]
        step = Step(model, adapter, inputs, samples, records)
        unique, equi = uniqueness(step)['loss_unique'], equivariance(step)['loss_equi']
    for loss in (unique, equi):
        gradient = torch.autograd.grad(loss, model.decoder.inst_branch.kernels, retain_graph=True)
        rows = gradient[0].abs().sum(1)
        assert bool((rows[3:] > 0).all()) and bool((rows[:3] == 0).all())

"""The adapter for a head of one's own, as docs/iuq.md shows it, trains and is shown."""

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.detectors import BaseDetector
from torch import nn

from isda_suite.apis.queries.recorded_images import record_images
from isda_suite.apis.queries.response_statistics import measure
from isda_suite.layers.query_adapter import FOUR_METHODS, QUERY_ADAPTERS
from isda_suite.registry import MODELS
from tests.apis.drawn_rectangles import DrawnRectangles
from tests.methods.iuq.build import batch_of

from .documents import ROOT, blocks_of


class MyHead(nn.Module):
    """Eight learnt kernels on a feature map; an instance takes the kernel of its number."""

    def __init__(self):
        super().__init__()
        self.kernels = nn.Embedding(8, 4)

    def forward(self, features):
        return self.kernels.weight.expand(len(features), -1, -1), features

    def match(self, samples):
        return [(torch.arange(len(s.gt_instances)),) * 2 for s in samples]

    def targets_of(self, sample):
        return sample.gt_instances.masks.to_tensor(torch.float32, 'cpu')[:, ::4, ::4]

    def loss(self, features, samples):
        kernels, maps = self(features)
        total = kernels.sum() * 0
        for i, (queries, gts) in enumerate(self.match(samples)):
            logits = torch.einsum('nc,chw->nhw', kernels[i][queries], maps[i])
            if len(logits):
                target = self.targets_of(samples[i])[gts]
                total = total + F.binary_cross_entropy_with_logits(logits, target)
        return dict(loss_mask=total)


class MyDetector(BaseDetector):
    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.backbone = nn.Conv2d(3, 4, 4, stride=4)
        self.mask_head = MyHead()

    def extract_feat(self, batch_inputs):
        return self.backbone(batch_inputs)

    def loss(self, batch_inputs, batch_data_samples):
        return self.mask_head.loss(self.extract_feat(batch_inputs), batch_data_samples)

    def predict(self, batch_inputs, batch_data_samples, rescale=True):
        return batch_data_samples

    def _forward(self, batch_inputs, batch_data_samples=None):
        return self.mask_head(self.extract_feat(batch_inputs))


def total_of(losses):
    return sum(value for name, value in losses.items() if 'loss' in name)


@pytest.fixture
def model():
    (block,) = [b for b in blocks_of(ROOT / 'docs/iuq.md') if 'class MyHeadAdapter' in b.text]
    assert all(f'def {method}' in block.text for method in FOUR_METHODS)
    MODELS.register_module(module=MyDetector)
    exec(compile(block.text, block.place, 'exec'), {})
    torch.manual_seed(0)
    preprocessor = dict(
        type='mmdet.DetDataPreprocessor', mean=[0.0] * 3, std=[255.0] * 3, pad_mask=True,
        pad_size_divisor=32,
    )  # fmt: skip
    yield MODELS.build(
        dict(
            type='isda_suite.IUQDetector',
            detector=dict(type='isda_suite.MyDetector', data_preprocessor=preprocessor),
            memory=dict(min_fill=1),
        )
    )
    del QUERY_ADAPTERS.module_dict['MyHeadAdapter'], MODELS.module_dict['MyDetector']


def test_it_trains_with_both_terms(model):
    model.loss(*batch_of(first_id=10))
    losses = model.loss(*batch_of())
    assert losses['loss_unique'] > 0 and losses['loss_equi'] > 0 and losses['iuq/mem_size'] > 0
    total_of(losses).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_a_batch_without_instances_keeps_every_term_connected(model):
    model.loss(*batch_of(first_id=10))
    total_of(model.loss(*batch_of(counts=(0,)))).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_its_responses_can_be_shown(model):
    adapter, images = record_images(model, DrawnRectangles(), range(3))
    found = measure(adapter, images)
    assert found['queries'] == 2 + 3 + 1
    assert found['foreign']['pixels'] > 0 and found['foreign_instances']['pixels'] > 0

"""SparseInst: kernels of matched queries alone are trained, whatever form its matcher has."""

import pytest
import torch

from isda_suite.layers.query_adapter import find_adapter
from isda_suite.methods.iuq.adapters import SparseInstAdapter
from isda_suite.methods.iuq.equivariance import Equivariance
from isda_suite.methods.iuq.pixel_uniqueness import PixelUniqueness
from isda_suite.methods.iuq.step import Step
from tests.methods.iuq import sparse_inst
from tests.methods.iuq.build import batch_of, build_plain


@pytest.fixture(params=['module', 'function'])
def model(request):
    model = build_plain('sparseinst')
    if request.param == 'function':
        if type(model.criterion) is not sparse_inst.SparseInstCriterion:
            pytest.skip("the project's own criterion has a module")
        model.criterion.assigner = model.criterion.matcher.forward
        del model.criterion.matcher
    return model


def test_kernels_of_matched_queries_are_trained(model):
    adapter = find_adapter(model)
    assert type(adapter) is SparseInstAdapter and adapter.mask_loss_weight == 2.0
    uniqueness = PixelUniqueness(memory=dict(min_fill=1), loss={})
    equivariance = Equivariance(dict(type='isda_suite.FlipX'))
    kernels = []
    model.decoder.inst_branch.register_forward_hook(lambda *args: kernels.append(args[2][1]))
    for number in range(2):
        inputs, samples = batch_of(seed=number, first_id=2 * number)
        with adapter.record(model, samples) as records:
            model.loss(inputs, samples)
        assert [r.queries.shape for r in records] == [(3, 16), (2, 16)]
        step = Step(model, adapter, inputs, samples, records)
        unique, equi = uniqueness(step)['loss_unique'], equivariance(step)['loss_equi']
    for loss, of_pass in ((unique, kernels[-2]), (equi, kernels[-1])):
        (gradient,) = torch.autograd.grad(loss, of_pass, retain_graph=True)
        assert [int((one.abs().sum(1) > 0).sum()) for one in gradient] == [3, 2]


def test_a_batch_without_targets_has_no_query_though_the_matcher_gives_other_numbers(model):
    adapter = find_adapter(model)
    inputs, samples = batch_of(counts=(0, 0))
    with adapter.record(model, samples) as records:
        model.loss(inputs, samples)
    assert [r.queries.shape for r in records] == [(0, 16)] * 2
    assert all(r.gt_inds.dtype == torch.long for r in records)
    logits = [adapter.respond_map(r, r.pixels) for r in records]
    assert [one.shape for one in logits] == [(0, 32, 32)] * 2
    assert float(adapter.mask_loss(records, logits).detach()) == 0

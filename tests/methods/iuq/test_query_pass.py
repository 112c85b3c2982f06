"""A pass for queries alone leaves out what nobody uses, and no number is another one for it."""

import pytest
import torch
from mmdet.models.dense_heads import SOLOV2Head, mask2former_head
from mmdet.models.dense_heads.mask2former_head import Mask2FormerHead

from isda_suite.layers.query_adapter import QueryAdapter, find_adapter
from isda_suite.methods.iuq.equivariance import Equivariance, equivariance_loss
from isda_suite.methods.iuq.geometry import Geometry
from isda_suite.methods.iuq.step import Step
from tests.methods.iuq.build import FAMILIES, MAP_FAMILIES, batch_of, build_plain

FLIP = Geometry((128, 128), flip_x=True)
LEFT_OUT = {
    'solov2': ('mask_head.mask_feature_head.conv_pred', 'mask_head.cls_convs.0.conv',
               'mask_head.loss_mask', 'mask_head.loss_cls'),
    'sotr': ('mask_head.mask_feature_head.conv_pred', 'mask_head.loss_mask', 'mask_head.loss_cls'),
    'condinst': ('mask_head.mask_feature_head.conv_pred', 'bbox_head.cls_convs.0.conv',
                 'mask_head.loss_mask'),
    'isda': ('bbox_head.loss_mask', 'bbox_head.loss_cls'),
    'mask2former': ('panoptic_head.loss_mask', 'panoptic_head.loss_dice'),
}  # fmt: skip
# What matches the queries of one layer: in the pass, and in one for queries alone.
MATCHING = {'isda': ('bbox_head', 'match', 1), 'solq': ('bbox_head', 'match', 1),
            'mask2former': ('panoptic_head', '_get_targets_single', 2)}  # fmt: skip


@pytest.fixture(autouse=True)
def same_points(monkeypatch):
    """Mask2Former matches at random points: the same ones in every call, however many there are."""
    match = Mask2FormerHead._get_targets_single

    def seeded(*args):
        torch.manual_seed(0)
        return match(*args)

    monkeypatch.setattr(Mask2FormerHead, '_get_targets_single', seeded)
    points = mask2former_head.get_uncertain_point_coords_with_randomness
    monkeypatch.setattr(
        'mmdet.models.utils.get_uncertain_point_coords_with_randomness',
        lambda *args: [torch.manual_seed(1), points(*args)][1],
    )


def whole_pass(adapter, model, inputs, samples):
    with adapter.record(model, samples) as records:
        model.loss(inputs, samples)
    return records


def term_and_gradients(family, second_pass):
    model = build_plain(family)
    adapter = find_adapter(model)
    inputs, samples = batch_of()
    own = whole_pass(adapter, model, inputs, samples)
    moved = second_pass(adapter, model, FLIP(inputs), FLIP.samples(samples))
    term = equivariance_loss(adapter, moved, own, FLIP)
    term.backward()
    return moved, term, [parameter.grad for parameter in model.parameters()]


def alone(adapter, *given):
    return adapter.record_queries(*given)


@pytest.mark.parametrize('family', FAMILIES)
def test_term_and_gradients_are_those_of_a_whole_pass_bit_for_bit(family):
    torch.manual_seed(3)  # IDIP draws its boxes
    whole, wanted, gradients = term_and_gradients(family, whole_pass)
    torch.manual_seed(3)
    records, term, found = term_and_gradients(family, alone)
    for one, other in zip(whole, records, strict=True):
        assert torch.equal(one.queries, other.queries) and torch.equal(one.gt_inds, other.gt_inds)
        assert other.pixels == ()
    assert term.item() == wanted.item() != 0
    for one, other in zip(gradients, found, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


@pytest.mark.parametrize('family', LEFT_OUT)
def test_losses_and_layers_that_only_they_need_do_not_run(family):
    model = build_plain(family)
    adapter, (inputs, samples) = find_adapter(model), batch_of()
    called = set()
    modules = dict(model.named_modules())
    for name in LEFT_OUT[family]:
        modules[name].register_forward_hook(lambda *_, name=name: called.add(name))
    whole_pass(adapter, model, inputs, samples)
    assert called == set(LEFT_OUT[family])
    called.clear()
    adapter.record_queries(model, inputs, samples)
    assert called == set()


@pytest.mark.parametrize('family', MATCHING)
def test_the_queries_of_the_last_layer_alone_are_matched(family, monkeypatch):
    model = build_plain(family)
    adapter, (inputs, samples) = find_adapter(model), batch_of()
    place, name, number = MATCHING[family]
    head, calls = getattr(model, place), []
    match = getattr(head, name)
    monkeypatch.setattr(head, name, lambda *args: [calls.append(1), match(*args)][1])
    adapter.record_queries(model, inputs, samples)
    assert len(calls) == number
    whole_pass(adapter, model, inputs, samples)
    assert len(calls) > 2 * number


@pytest.mark.parametrize('family', MAP_FAMILIES)
def test_the_next_pass_is_a_whole_one(family):
    model = build_plain(family)
    adapter, (inputs, samples) = find_adapter(model), batch_of()
    torch.manual_seed(0)
    losses = model.loss(inputs, samples)
    before = [(name, sorted(vars(module))) for name, module in model.named_modules()]
    adapter.record_queries(model, inputs, samples)
    assert [(name, sorted(vars(module))) for name, module in model.named_modules()] == before
    with pytest.raises(AttributeError):
        adapter.record_queries(model, inputs, [None, None])
    assert [(name, sorted(vars(module))) for name, module in model.named_modules()] == before
    torch.manual_seed(0)
    torch.testing.assert_close(model.loss(inputs, samples), losses, rtol=0, atol=0)


def test_of_a_head_with_code_of_its_own_nothing_is_left_out(monkeypatch):
    class OwnHead(SOLOV2Head):
        def forward(self, maps):
            kernels, logits, feature = super().forward(maps)
            return [k + c.sum() for k, c in zip(kernels, logits, strict=True)], logits, feature

    def own(adapter, model, *given):
        model.mask_head.__class__ = OwnHead
        return adapter.record_queries(model, *given)

    def own_whole(adapter, model, *given):
        model.mask_head.__class__ = OwnHead
        return whole_pass(adapter, model, *given)

    _, wanted, gradients = term_and_gradients('solov2', own_whole)
    _, term, found = term_and_gradients('solov2', own)
    assert term.item() == wanted.item()
    assert all(
        (one is None and other is None) or torch.equal(one, other)
        for one, other in zip(gradients, found, strict=True)
    )


@pytest.mark.parametrize('family', [*LEFT_OUT, 'solq'])
def test_a_detector_that_reads_its_losses_finds_them(family):
    model = build_plain(family)
    wanted = [name for name in model.loss(*batch_of()) if 'loss' in name]

    class Reader(type(model)):
        def loss(self, inputs, samples):
            losses = super().loss(inputs, samples)
            return {name: 2 * losses[name] for name in wanted}

    model.__class__ = Reader
    records = find_adapter(model).record_queries(model, *batch_of())
    assert sum(len(record.queries) for record in records) > 0


@pytest.mark.parametrize('base_weight', [0.0, 0.5])
def test_a_whole_pass_is_run_where_its_base_loss_is_wanted(base_weight, monkeypatch):
    model = build_plain('solov2')
    adapter, (inputs, samples) = find_adapter(model), batch_of()
    step = Step(model, adapter, inputs, samples, whole_pass(adapter, model, inputs, samples))
    passes = []
    run = QueryAdapter.record_queries
    monkeypatch.setattr(
        QueryAdapter, 'record_queries', lambda *args: [passes.append(1), run(*args)][1]
    )
    term = Equivariance(dict(type='isda_suite.FlipX'), base_weight=base_weight)
    found = term(step)
    assert len(passes) == (base_weight == 0)
    assert ('equi_loss_cls' in found) == (base_weight > 0)

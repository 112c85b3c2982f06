"""The wrapper: nothing changes but the two terms, and nothing is left of them."""

import copy
import math

import pytest
import torch
from mmengine.runner.checkpoint import load_state_dict
from torch.nn.modules.module import register_module_forward_hook

from isda_suite.layers.errors import ModelConfigError
from tests.methods.iuq.build import FAMILIES, batch_of, build_iuq, build_plain, sample_of

FLIP = dict(transform=dict(type='isda_suite.FlipX'))


def total_of(losses):
    terms = [v for k, v in losses.items() if 'loss' in k]
    return sum(sum(v) if isinstance(v, list) else v for v in terms)


def predicted(model, inputs, samples):
    """Predict, and count the calls of every kind of module."""
    calls = {}

    def count(module, *_):
        calls[type(module).__name__] = calls.get(type(module).__name__, 0) + 1

    handle = register_module_forward_hook(count)
    try:
        with torch.no_grad():
            found = model.predict(inputs, copy.deepcopy(samples))
    finally:
        handle.remove()
    return [sample.pred_instances for sample in found], calls


@pytest.mark.parametrize('family', FAMILIES)
def test_inference_is_that_of_the_plain_detector_bit_for_bit(family):
    plain, iuq = build_plain(family), build_iuq(family)
    for sample in (batch := batch_of())[1]:
        sample.gt_instances = sample.gt_instances[:1]
    iuq.loss(*batch_of())  # whatever training leaves behind
    plain.loss(*batch_of())  # moves statistics of batches the same way
    with torch.no_grad():
        for _ in range(2):
            iuq.terms[0].memory.push(*_rows(iuq))
    results = [predicted(model.eval(), *batch) for model in (plain, iuq)]
    (expected, calls), (found, own_calls) = results
    assert calls == own_calls and sum(calls.values()) > 10
    for one, other in zip(expected, found, strict=True):
        assert set(one.keys()) == set(other.keys())
        for key, value in one.items():
            assert torch.equal(value, other[key]), key


def _rows(model):
    held = model.terms[0].memory.read()
    about = torch.stack([held.image_ids, held.labels, held.instance_ids], 1)
    return held.rows.float(), about


@pytest.mark.parametrize('family', FAMILIES)
def test_a_checkpoint_is_one_of_the_plain_detector(family):
    plain, iuq = build_plain(family, seed=1), build_iuq(family, seed=2)
    iuq.loss(*batch_of())
    own, other = iuq.state_dict(), plain.state_dict()
    assert list(own) == list(other)
    assert own._metadata == other._metadata
    plain.load_state_dict(own)
    assert all(torch.equal(v, plain.state_dict()[k]) for k, v in own.items())
    iuq.load_state_dict(build_plain(family, seed=3).state_dict())
    reference = build_plain(family, seed=3).state_dict()
    assert all(torch.equal(v, iuq.state_dict()[k]) for k, v in reference.items())
    load_state_dict(iuq, build_plain(family, seed=4).state_dict(), strict=True)  # mmengine's own
    reference = build_plain(family, seed=4).state_dict()
    assert all(torch.equal(v, iuq.state_dict()[k]) for k, v in reference.items())
    names = [name for name, _ in plain.named_parameters()]
    assert [name for name, _ in iuq.named_parameters()] == names


@pytest.mark.parametrize('family', FAMILIES)
def test_the_base_loss_is_unchanged_and_the_terms_reach_the_queries(family):
    plain, iuq = build_plain(family), build_iuq(family, equivariance=FLIP)
    iuq.loss(*batch_of(seed=5, first_id=10))
    plain.loss(*batch_of(seed=5, first_id=10))
    found = []
    for model in (plain, iuq):
        torch.manual_seed(7)
        found.append(model.loss(*batch_of()))
    base, own = found
    for name, value in base.items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(own[name])), name
    extra = {name for name in own if name not in base}
    log = {'iuq/mem_size', 'iuq/p_mean', 'iuq/p_top1pct'}
    assert extra == {'loss_unique', 'loss_equi'} | log
    assert not iuq.terms[0].memory.bank.requires_grad
    for name in ('loss_unique', 'loss_equi'):
        parameters = [p for p in iuq.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(own[name], parameters, retain_graph=True, allow_unused=True)
        assert sum(float(g.abs().sum()) for g in gradients if g is not None) > 0, name


@pytest.mark.parametrize('family', FAMILIES)
def test_the_loss_falls_on_two_images(family):
    model = build_iuq(family, equivariance=dict(FLIP, loss_weight=1.0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    inputs, samples = batch_of(side=96)
    curve = []
    for number in range(12):
        torch.manual_seed(0)
        for i, sample in enumerate(samples):  # pixels of earlier steps are other images
            sample.set_metainfo(dict(img_id=10 * number + i))
        loss = total_of(model.loss(inputs, samples))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(float(loss.detach()))
    assert all(map(math.isfinite, curve))
    assert min(curve[-3:]) < 0.95 * max(curve[1:3]), curve


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('empty', [(), (0,), (0, 1)], ids=['none', 'first', 'both'])
def test_images_without_instances_keep_every_term_connected(family, empty):
    model = build_iuq(family, equivariance=FLIP)
    inputs, samples = batch_of()
    model.loss(inputs, samples)
    for i in empty:
        samples[i] = sample_of([], [], (128, 128), 50 + i)
    losses = model.loss(inputs, samples)
    assert losses['loss_unique'].requires_grad and losses['loss_equi'].requires_grad
    assert math.isfinite(float(total_of(losses).detach()))
    total_of(losses).backward()


def test_pixels_of_the_own_image_are_never_met():
    model = build_iuq('solov2', equivariance=False)
    inputs, samples = batch_of(num_images=1)
    for _ in range(3):  # the same image again, as after an epoch
        losses = model.loss(inputs, samples)
        assert float(losses['loss_unique'].detach()) == 0
        assert 'iuq/p_mean' not in losses
    samples[0].set_metainfo(dict(img_id=99))
    assert float(model.loss(inputs, samples)['loss_unique'].detach()) > 0


def test_images_without_an_id_are_all_different():
    model = build_iuq('solov2', equivariance=False)
    inputs, samples = batch_of(num_images=1)
    samples[0].set_metainfo(dict(img_id=None))
    model.loss(inputs, samples)
    assert float(model.loss(inputs, samples)['loss_unique'].detach()) > 0
    held = model.terms[0].memory.read()
    assert set(held.image_ids.tolist()) == {-1, -2}


@pytest.mark.parametrize('same_class', ['only', 'exclude'])
def test_pixels_can_be_limited_by_class(same_class):
    options = dict(equivariance=False, uniqueness=dict(same_class=same_class))
    model = build_iuq('solov2', **options)
    first, second = (batch_of(num_images=1, first_id=i, num_classes=1) for i in (0, 1))
    model.loss(*first)
    value = float(model.loss(*second)['loss_unique'].detach())
    assert (value > 0) == (same_class == 'only')


@pytest.mark.parametrize('family', ['solov2', 'condinst', 'mask2former'])
def test_a_resumed_training_goes_on_exactly(family):
    def trained(model, steps):
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        curve = []
        for number in steps:
            torch.manual_seed(number)
            inputs, samples = batch_of(seed=number, first_id=2 * number, side=96)
            loss = total_of(model.loss(inputs, samples))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.append(float(loss.detach()))
        return curve

    def build():
        return build_iuq(family, equivariance=dict(every_n=2), warmup_steps=3)

    never = build()
    expected = trained(never, range(4))
    first, second = build(), build()
    curve = trained(first, range(2))
    second.load_state_dict(first.state_dict())
    second.load_training_state(first.training_state())
    assert curve + trained(second, range(2, 4)) == expected
    other = build()
    other.load_state_dict(first.state_dict())  # weights alone are not enough
    assert curve + trained(other, range(2, 4)) != expected


def test_the_terms_grow_over_the_warm_up_and_can_be_left_out():
    inputs, samples = batch_of()
    full = build_iuq('solov2', equivariance=False)
    ramped = build_iuq('solov2', equivariance=False, warmup_steps=4)
    for model in (full, ramped):
        torch.manual_seed(3)
        model.loss(*batch_of(first_id=10))
    values = [float(m.loss(inputs, samples)['loss_unique'].detach()) for m in (full, ramped)]
    assert values[1] == pytest.approx(values[0] / 2)
    neither = build_iuq('solov2', equivariance=False, uniqueness=False)
    assert set(neither.loss(inputs, samples)) == {'loss_mask', 'loss_cls'}


def test_the_term_can_be_computed_every_nth_step_for_a_part_of_the_batch():
    model = build_iuq('solov2', uniqueness=False, equivariance=dict(FLIP, every_n=3, fraction=0.5))
    seen = []
    handle = model.mask_head.register_forward_hook(lambda _m, _i, out: seen.append(len(out[2])))
    steps = ['loss_equi' in model.loss(*batch_of()) for _ in range(4)]
    handle.remove()
    assert steps == [True, False, False, True]
    assert seen == [2, 1, 2, 2, 2, 1]


def test_the_base_loss_of_the_transformed_image_can_be_trained_too():
    model = build_iuq('solov2', uniqueness=False, equivariance=dict(FLIP, base_weight=0.5))
    losses = model.loss(*batch_of())
    assert {'equi_loss_mask', 'equi_loss_cls', 'loss_equi'} <= set(losses)


def test_the_backbone_can_be_left_out_of_the_second_pass():
    model = build_iuq('solov2', uniqueness=False, equivariance=dict(FLIP, backbone_gradient=False))
    losses = model.loss(*batch_of())
    kernel = model.mask_head.conv_kernel.weight
    stem = model.backbone.conv1.weight
    assert torch.autograd.grad(losses['loss_equi'], kernel, retain_graph=True)[0].abs().sum() > 0
    # The features of the original image are asked, and those keep their gradient.
    assert torch.autograd.grad(losses['loss_equi'], stem)[0].abs().sum() > 0
    assert 'extract_feat' not in vars(model.plain)


@pytest.mark.parametrize('family', ['solov2', 'condinst', 'isda'])
def test_mixed_precision_gives_finite_terms(family):
    model = build_iuq(family)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        model.loss(*batch_of(first_id=5))
        losses = model.loss(*batch_of())
    assert losses['loss_unique'].dtype == torch.float32
    assert math.isfinite(float(total_of(losses).detach()))
    total_of(losses).backward()


def test_a_copy_is_a_wrapper_of_its_own_detector():
    """As averaging of weights makes it."""
    model = build_iuq('solov2')
    twin = copy.deepcopy(model)
    assert twin.plain is not model.plain
    assert twin.adapter.head is twin.mask_head is twin.plain.mask_head
    with torch.no_grad():
        twin.mask_head.conv_cls.weight.fill_(0)
    assert model.mask_head.conv_cls.weight.abs().sum() > 0
    twin.eval()
    assert not twin.plain.training and model.plain.training


def test_presets_and_their_errors():
    with pytest.raises(ModelConfigError, match='preset: expected one of'):
        build_iuq('solov2', preset='none')
    for preset in ('released_condinst', 'released_solov2', 'released_mask2former'):
        model = build_iuq(preset.removeprefix('released_'), preset=preset, memory=None)
        for number in range(2):
            losses = model.loss(*batch_of(first_id=2 * number))
        assert math.isfinite(float(total_of(losses).detach()))
        assert any('unique' in name or 'contrast' in name for name in losses)
    wrong = build_iuq('condinst', preset='released_mask2former', memory=None)
    with pytest.raises(ModelConfigError, match='Mask2FormerHead'):
        wrong.loss(*batch_of())
    wrong = build_iuq('isda', preset='released_solov2', memory=None)
    with pytest.raises(ModelConfigError, match='SOLOV2Head'):
        wrong.loss(*batch_of())

"""Behaviour of ISDNet at the edges; numbers against the original are in tests/golden."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope

from isda_suite.methods.isdnet.pyramid import LaplacianPyramid
from isda_suite.registry import MODELS
from tests.methods.isdnet.build import published, samples_of, small_isdnet

CLASSES = 3


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return small_isdnet(CLASSES)


def labelled(batch=2, size_hw=(48, 64), ignored=False):
    """Make images and labels: the class of a pixel is the third of the image it lies in."""
    image = torch.from_numpy(np.random.RandomState(0).rand(1, 3, *size_hw)).float()
    label = torch.arange(size_hw[1]).mul(CLASSES).div(size_hw[1], rounding_mode='floor')
    label = label.expand(1, 1, *size_hw).clone()
    image = image + F.one_hot(label[0, 0], CLASSES).permute(2, 0, 1)
    if ignored:
        label.fill_(255)
    return image.repeat(batch, 1, 1, 1), samples_of(label.repeat(batch, 1, 1, 1))


def total_of(losses):
    return sum(value for name, value in losses.items() if 'loss' in name)


@pytest.mark.parametrize('size_hw', [(8, 8), (9, 13), (50, 37), (64, 96), (31, 200)])
def test_any_size_gives_a_class_for_every_pixel(model, size_hw):
    model.eval()
    with torch.no_grad():
        found = model.predict(torch.randn(2, 3, *size_hw))
    assert [tuple(one.pred_sem_seg.data.shape) for one in found] == [(1, *size_hw)] * 2
    assert found[0].pred_sem_seg.data.dtype == torch.uint8


def test_an_image_below_eight_pixels_says_so(model):
    with pytest.raises(ValueError, match='sides of at least 8 pixels, got 7 x 64'):
        model.predict(torch.zeros(1, 3, 7, 64))


def test_a_batch_gives_what_single_images_give(model):
    model.eval()
    images = torch.randn(2, 3, 40, 56)
    with torch.no_grad():
        torch.testing.assert_close(model(images)[1:], model(images[1:]), rtol=1e-4, atol=1e-5)


def test_predictions_hold_logits_only_where_they_are_asked_for(model):
    model.eval()
    images = torch.randn(1, 3, 40, 56)
    meta = dict(ori_shape=(50, 70), img_shape=(36, 56), padding_size=(0, 0, 0, 4))
    with torch.no_grad():
        lean = model.predict(images, samples_of(images[:, :1], **meta))[0]
        model.test_cfg.keep_logits = True
        kept = model.predict(images, samples_of(images[:, :1], **meta))[0]
        model.test_cfg.keep_logits = False
    assert 'seg_logits' not in lean and kept.seg_logits.data.shape == (CLASSES, 50, 70)
    assert torch.equal(lean.pred_sem_seg.data.long(), kept.pred_sem_seg.data)


@pytest.mark.parametrize('direction', ['horizontal', 'vertical'])
def test_a_mirrored_view_is_mirrored_back(model, direction):
    model.eval()
    images = torch.randn(1, 3, 40, 56)
    meta = dict(ori_shape=(40, 56), flip=True, flip_direction=direction)
    axis = {'vertical': 1, 'horizontal': 2}[direction]
    with torch.no_grad():
        plain = model.predict(images)[0].pred_sem_seg.data
        mirrored = model.predict(images, samples_of(images[:, :1], **meta))[0].pred_sem_seg.data
    assert torch.equal(mirrored, plain.flip(axis))


def test_slide_inference_over_one_window_is_whole_inference(model):
    model.eval()
    images = torch.randn(1, 3, 40, 56)
    with torch.no_grad():
        whole = model.predict(images)[0].pred_sem_seg.data
        model.test_cfg.update(mode='slide', crop_size=(40, 56), stride=(40, 56))
        slide = model.predict(images)[0].pred_sem_seg.data
        model.test_cfg.crop_size = model.test_cfg.stride = (24, 24)
        parts = model.predict(images)[0].pred_sem_seg.data
        model.test_cfg.mode = 'whole'
    assert torch.equal(whole, slide) and parts.shape == whole.shape


def test_inference_runs_nothing_that_only_trains(model):
    """No deep logits, no auxiliary head, no decoder of pictures."""
    model.eval()
    called = []
    head = model.refine_head
    training_only = [
        model.decode_head.conv_seg, model.auxiliary_head, head.sr_decoder,
        head.context_seg8, head.context_seg16,
    ]  # fmt: skip
    hooks = [m.register_forward_hook(lambda m, *_: called.append(m)) for m in training_only]
    with torch.no_grad():
        model.predict(torch.randn(1, 3, 40, 56))
    for hook in hooks:
        hook.remove()
    assert not called


@pytest.mark.parametrize('ignored', [False, True])
def test_gradient_reaches_every_parameter(model, ignored):
    """Also without a single labelled pixel, for the gradient exchange of several ranks."""
    model.train()
    model.zero_grad()
    losses = model.loss(*labelled(ignored=ignored))
    total_of(losses).backward()
    assert all(torch.isfinite(value).all() for value in losses.values())
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    cross_entropies = [float(v) for name, v in losses.items() if name.endswith('loss_ce')]
    assert len(cross_entropies) == 5 and all((value == 0) == ignored for value in cross_entropies)


def test_loss_falls_on_one_image():
    torch.manual_seed(1)
    model = small_isdnet(CLASSES).train()
    data = labelled()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    totals = []
    for _ in range(30):
        total = total_of(model.loss(*data))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total))
    assert totals[-1] < 0.5 * totals[0]


def test_one_image_a_process_is_refused_with_the_remedies(model):
    model.train()
    with pytest.raises(ValueError, match=r'image_pool.*batch_size=2.*sync_bn.*GN'):
        model.loss(*labelled(batch=1))


def test_one_image_a_process_trains_with_another_normalisation():
    model = small_isdnet(CLASSES, norm_cfg=dict(type='GN', num_groups=1)).train()
    losses = model.loss(*labelled(batch=1))
    assert all(torch.isfinite(value).all() for value in losses.values())


@pytest.mark.parametrize(
    'options',
    [
        {'deep_sampling': 'pyramid'},
        {'deep_sampling': 'area'},
        {'deep_sampling': 'bilinear'},
        {'odd_sides': 'nearest'},
        {'sr_target': 'image'},
        {'refine_head.loss_distill.normalise': 'positions'},
        {'refine_head.seg_bn_init': 'one'},
        {'shallow_branch.stdc_type': 'STDCNet2'},
    ],
    ids=str,
)
def test_every_option_trains_and_predicts(options):
    model = small_isdnet(CLASSES, **options)
    losses = model.train().loss(*labelled(size_hw=(33, 45)))
    assert all(torch.isfinite(value).all() for value in losses.values())
    with torch.no_grad():
        assert model.eval()(torch.randn(1, 3, 33, 45)).shape == (1, CLASSES, 33, 45)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'deep_sampling': 'bicubic'}, "deep_sampling: expected one of .* got 'bicubic'"),
        ({'odd_sides': 'pad'}, 'odd_sides: expected one of'),
        ({'sr_target': 'label'}, 'sr_target: expected one of'),
        ({'refine_head.seg_bn_init': 'zero'}, 'refine_head.seg_bn_init: expected one of'),
        ({'refine_head.loss_distill.normalise': 'all'}, 'loss_distill.normalise: expected one of'),
        ({'shallow_branch.stem_init': 'half'}, 'shallow_branch.stem_init: expected one of'),
        ({'deep_sampling': 'pyramid', 'deep_ratio': 8}, 'reduces 4 times .* deep_ratio=8'),
        ({'num_levels': 3}, '3 residuals have 9 channels, got 6'),
        ({'refine_head.num_groups': 5}, 'channels=32 cannot be split into num_groups=5'),
        ({'auxiliary_head.num_classes': 4}, "the same classes.*'auxiliary_head': 4"),
    ],
)
def test_unknown_or_unfit_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        small_isdnet(CLASSES, **options)


def test_the_pyramid_equals_its_formula_and_gives_the_image_back():
    """Filter and drop, insert zeros and filter, as the paper writes it."""
    images = torch.randn(1, 3, 18, 22)
    pyramid = LaplacianPyramid(2)
    (h0, h1), rest = pyramid(images)
    kernel = pyramid.kernel.expand(3, 1, 5, 5)

    def filtered(x, factor=1):
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode='reflect'), factor * kernel, groups=3)

    reduced = filtered(images)[..., ::2, ::2]
    zeros = torch.zeros_like(images)
    zeros[..., ::2, ::2] = reduced
    torch.testing.assert_close(h0, images - filtered(zeros, 4), rtol=0, atol=1e-6)
    restored = h1 + pyramid.expand(rest, h1.shape[-2:])
    restored = h0 + pyramid.expand(restored, images.shape[-2:])
    torch.testing.assert_close(restored, images, rtol=0, atol=1e-6)


def test_both_treatments_of_odd_sides_agree_below_3227():
    images = torch.randn(1, 1, 3225, 35)
    crop, nearest = (LaplacianPyramid(1, odd)(images)[0][0] for odd in ('crop', 'nearest'))
    assert torch.equal(crop, nearest)
    images = torch.randn(1, 1, 3227, 35)
    crop, nearest = (LaplacianPyramid(1, odd)(images)[0][0] for odd in ('crop', 'nearest'))
    assert int((crop != nearest).any(-1).sum()) == 1


def test_mixed_precision_keeps_the_residuals_in_float32(model):
    model.train()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        images, samples = labelled()
        assert model.encode(images).residuals.dtype == torch.float32
        losses = model.loss(images, samples)
    assert all(torch.isfinite(value).all() for value in losses.values())


def test_the_published_model_has_the_published_sizes():
    """Parameters of the parts, as counted on the original."""
    init_default_scope('mmseg')
    with torch.device('meta'):
        model = MODELS.build(published())
    counts = {name: sum(p.numel() for p in m.parameters()) for name, m in model.named_children()}
    head = {
        name: sum(p.numel() for p in m.parameters())
        for name, m in model.refine_head.named_children()
    }
    assert counts['backbone'] == 11_195_744 and counts['decode_head'] == 2_640_263
    assert counts['auxiliary_head'] == 148_039 and counts['shallow_branch'] == 1_278_976
    assert head['fuse16'] == 1_165_314 and head['fuse8'] == 870_402
    assert head['sr_decoder'] == 258_883
    assert head['conv_seg'] == head['context_seg8'] == head['context_seg16'] == 74_311
    trains_only = counts['auxiliary_head'] + head['sr_decoder'] + 2 * head['conv_seg']
    assert sum(counts.values()) == 17_780_554
    assert sum(counts.values()) - trains_only == 17_225_010


@pytest.mark.parametrize(('init', 'factor'), [('tile', 1), ('average', 0.5)])
def test_pretrained_stems_are_repeated_over_the_residuals(tmp_path, init, factor):
    """Weights of an STDC for pictures, with the last stage that has no place here."""
    import warnings

    source = MODELS.build(dict(type='isda_suite.ShallowBranch', in_channels=3)).state_dict()
    path = tmp_path / 'stdc.pth'
    torch.save({'state_dict': source | {'stages.4.0.layers.0.conv.weight': torch.ones(2)}}, path)
    model = MODELS.build(
        dict(
            type='isda_suite.ShallowBranch',
            stem_init=init,
            init_cfg=dict(type='Pretrained', checkpoint=str(path)),
        )
    )
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        model.init_weights()
    stem = source['stages.0.conv.weight']
    assert torch.equal(model.stages[0].conv.weight, factor * torch.cat([stem, stem], 1))
    name = 'stages.3.1.layers.3.conv.weight'
    assert torch.equal(model.state_dict()[name], source[name])


@pytest.mark.parametrize(('init', 'mean'), [('paper', 0.0), ('one', 1.0)])
def test_the_initialiser_of_the_classifier_hits_its_normalisation(init, mean):
    model = small_isdnet(CLASSES, **{'refine_head.seg_bn_init': init})
    model.init_weights()
    scales = model.refine_head.conv_seg.conv.norm.weight
    assert abs(float(scales.detach().mean()) - mean) < 0.02
    assert float(model.refine_head.context_seg8.conv.norm.weight.detach().mean()) == 1
    assert float(model.refine_head.fuse16.spatial_gain.detach()) == 0

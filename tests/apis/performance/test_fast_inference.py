"""Fast inference gives what slow inference gives."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from isda_suite.apis.large_images.coarse_logits import CoarseLogits
from isda_suite.apis.performance.fast_inference import InferenceSteps, optimise_for_inference
from isda_suite.engine.errors import ConfigError
from tests.methods.isdnet.build import lively_isdnet

# Of the golden files of the whole network: of the largest value, and beside it.
RTOL, ATOL = 1e-3, 1e-4
EXACT_STEPS = {
    'fused': InferenceSteps(fused=True, channels_last=False),
    'channels last': InferenceSteps(fused=False, channels_last=True),
    'both': InferenceSteps(),
}


@pytest.fixture(scope='module')
def plain():
    return lively_isdnet()


@pytest.fixture(params=[(128, 160), (113, 91)], ids=['even', 'odd'])
def images(request):
    return torch.randn((2, 3, *request.param), generator=torch.Generator().manual_seed(0))


def margin_of(logits):
    best = logits.topk(2, 1).values
    return best[:, 0] - best[:, 1]


@pytest.mark.parametrize('steps', EXACT_STEPS.values(), ids=EXACT_STEPS)
@torch.no_grad()
def test_float32_steps_keep_logits_and_labels(plain, images, steps):
    fast = optimise_for_inference(copy.deepcopy(plain), steps)
    expected, found = plain(images), fast(images)
    allowed = RTOL * expected.abs().max() + ATOL
    assert (found - expected).abs().max() <= allowed
    maps = [[one.pred_sem_seg.data[0] for one in model.predict(images)] for model in (plain, fast)]
    tie = margin_of(expected) <= 2 * allowed
    assert (torch.stack(maps[0]) == torch.stack(maps[1]))[~tie].all()
    assert tie.double().mean() < 0.05


@torch.no_grad()
def test_convolutions_over_time_are_stored_by_pixel_too():
    model = nn.Sequential(nn.Conv3d(3, 4, 3), nn.Flatten(1, 2), nn.Conv2d(8, 2, 1)).eval()
    clip = torch.randn(1, 3, 4, 9, 9)
    expected = model(clip)
    optimise_for_inference(model, EXACT_STEPS['channels last'])
    torch.testing.assert_close(model(clip), expected)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert model[2].weight.is_contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def test_bfloat16_changes_few_labels_and_leaves_the_pyramid_in_float32(plain, images):
    fast = optimise_for_inference(copy.deepcopy(plain), InferenceSteps(amp_dtype='bfloat16'))
    seen = []
    fast.pyramid.register_forward_hook(lambda _, inputs, result: seen.append(result[0][0].dtype))
    fast.refine_head.conv_seg.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    share = (plain(images).argmax(1) != fast(images).argmax(1)).double().mean()
    assert seen == [torch.float32, torch.bfloat16]
    assert 0 < share < 0.05  # of random weights; measured 0.01


@torch.no_grad()
def test_every_way_into_a_segmentor_has_the_precision_asked_for(plain):
    fast = optimise_for_inference(copy.deepcopy(plain), InferenceSteps(amp_dtype='bfloat16'))
    seen = []
    fast.refine_head.conv_seg.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    images = torch.zeros(1, 3, 64, 64)
    fast.encode_decode(images, [])
    CoarseLogits(fast)(np.zeros((64, 64, 3), np.uint8))
    fast(images, mode='predict')
    assert seen == [torch.bfloat16] * 3
    assert not torch.is_autocast_enabled('cpu'), 'it ends with the pass'


def test_no_batch_norm_is_left_when_fused(plain):
    fast = optimise_for_inference(copy.deepcopy(plain))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    assert not any(parameter.requires_grad for parameter in fast.parameters())


def test_a_model_in_training_and_unknown_types_are_refused(plain):
    with pytest.raises(ConfigError, match=r'training mode: call model\.eval'):
        optimise_for_inference(copy.deepcopy(plain).train())
    with pytest.raises(ConfigError, match='amp_dtype must be auto'):
        InferenceSteps(amp_dtype='int8')


@pytest.mark.slow
@torch.no_grad()
def test_a_compiled_isdnet_keeps_its_logits(plain, images):
    fast = optimise_for_inference(copy.deepcopy(plain), InferenceSteps(compiled=True))
    expected = plain(images)
    assert (fast(images) - expected).abs().max() <= RTOL * expected.abs().max() + ATOL

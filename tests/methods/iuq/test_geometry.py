"""The transformations form a group on the grid, and move boxes and masks alike."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from isda_suite.layers.errors import ModelConfigError
from isda_suite.methods.iuq.geometry import AlignedCrop, FlipX, FlipY, Geometry, OneOf, Rot90
from tests.methods.iuq.build import batch_of, sample_of

FEW = settings(max_examples=40, deadline=None)
turns = st.integers(0, 3)


@FEW
@given(flip_x=st.booleans(), flip_y=st.booleans(), turn=turns)
def test_mirrors_and_turns_can_be_undone(flip_x, flip_y, turn):
    image = torch.rand(3, 8, 12)
    moved = Geometry((8, 12), turns=turn)(Geometry((8, 12), flip_x=flip_x, flip_y=flip_y)(image))
    turned_back = torch.rot90(moved, -turn, (-2, -1))
    assert torch.equal(Geometry((8, 12), flip_x=flip_x, flip_y=flip_y)(turned_back), image)


@FEW
@given(
    seed=st.integers(0, 999), flip_x=st.booleans(), flip_y=st.booleans(), turn=turns,
    stride=st.sampled_from([4, 8, 16, 32]),
)  # fmt: skip
def test_pooled_features_commute_with_every_transformation(seed, flip_x, flip_y, turn, stride):
    torch.manual_seed(seed)
    canvas = (128, 96)
    window = AlignedCrop()._window(canvas)
    geometry = Geometry(canvas, window, flip_x, flip_y, turn)
    image = torch.randint(0, 9, (1, 2, *canvas)).double()  # whole numbers: sums are exact
    features_of_moved = F.avg_pool2d(geometry(image), stride)
    assert torch.equal(features_of_moved, geometry(F.avg_pool2d(image, stride), stride))
    assert tuple(features_of_moved.shape[-2:]) == tuple(n // stride for n in geometry.size_hw)


@FEW
@given(seed=st.integers(0, 999), flip_x=st.booleans(), flip_y=st.booleans(), turn=turns)
def test_boxes_stay_around_their_masks(seed, flip_x, flip_y, turn):
    torch.manual_seed(seed)
    inputs, samples = batch_of(seed=seed, width=96, counts=(4,))
    canvas = tuple(inputs.shape[-2:])
    geometry = Geometry(canvas, AlignedCrop()._window(canvas), flip_x, flip_y, turn)
    for before, after in zip(samples, geometry.samples(samples), strict=True):
        gts = after.gt_instances
        assert tuple(after.img_shape) == geometry.size_hw
        assert torch.equal(gts.masks.get_bboxes('hbox').tensor, gts.bboxes)
        assert len(gts.labels) == len(gts.masks) == len(gts.bboxes)
        # Instances of which enough is left, and only those, are kept.
        masks = torch.from_numpy(before.gt_instances.masks.masks)
        share = geometry(masks).sum((1, 2)) / masks.sum((1, 2))
        assert len(gts) == int((share >= geometry.min_visible).sum())
        assert tuple(before.img_shape) == canvas  # the original is as it was


@FEW
@given(seed=st.integers(0, 9999))
def test_a_crop_is_aligned_and_shows_an_instance(seed):
    torch.manual_seed(seed)
    inputs, samples = batch_of(seed=seed % 50, side=160, width=224)
    canvas = tuple(inputs.shape[-2:])
    geometry = AlignedCrop().draw(canvas, samples)
    top, left, height, width = geometry.window or (0, 0, *canvas)
    assert all(n % 32 == 0 for n in (top, left, height, width))
    assert top + height <= canvas[0] and left + width <= canvas[1]
    assert height >= canvas[0] / 2 and width >= canvas[1] / 2
    assert sum(len(s.gt_instances) for s in geometry.samples(samples)) > 0


@FEW
@given(seed=st.integers(0, 9999), stride=st.sampled_from([32, 64, 128]))
def test_a_window_is_enlarged_to_a_larger_stride(seed, stride):
    canvas = (192, 320)
    torch.manual_seed(seed)
    drawn = AlignedCrop().draw(canvas, [sample_of([[0, 0, 192, 192]], [0], canvas, 0)])
    found = drawn.aligned(stride)
    if stride == 32 or drawn.window is None:
        assert found == drawn
        return
    for axis, side in enumerate(canvas):
        start, length = found.window[axis], found.window[axis + 2]
        assert start % stride == 0 and (length % stride == 0 or start + length == side)
        assert start <= drawn.window[axis]
        assert start + length >= drawn.window[axis] + drawn.window[axis + 2]
    assert found.flip_x == drawn.flip_x and found.min_visible == drawn.min_visible


def test_a_crop_of_images_without_instances_is_the_whole():
    sample = sample_of([], [], (64, 64), 0)
    geometry = AlignedCrop().draw((64, 64), [sample])
    assert geometry.window is None
    (moved,) = geometry.samples([sample])
    assert len(moved.gt_instances) == 0 and moved.gt_instances.masks.masks.shape == (0, 64, 64)


def test_semantic_maps_move_with_the_image():
    from mmengine.structures import PixelData

    sample = sample_of([[0, 0, 8, 8]], [0], (32, 64), 0)
    sample.gt_sem_seg = PixelData(sem_seg=torch.arange(32 * 64).view(1, 32, 64))
    (moved,) = FlipX().draw((32, 64), [sample]).samples([sample])
    assert torch.equal(moved.gt_sem_seg.sem_seg, sample.gt_sem_seg.sem_seg.flip(-1))


@pytest.mark.parametrize(('canvas', 'allowed'), [((64, 64), {1, 2, 3}), ((64, 96), {2})])
def test_only_squares_are_turned_by_quarters(canvas, allowed):
    torch.manual_seed(0)
    assert {Rot90().draw(canvas, []).turns for _ in range(40)} == allowed


def test_one_of_chooses_all_and_only_its_own():
    torch.manual_seed(0)
    one_of = OneOf([dict(type='isda_suite.FlipX'), dict(type='isda_suite.FlipY')])
    drawn = {one_of.draw((32, 32), []) for _ in range(30)}
    assert drawn == {FlipX().draw((32, 32), []), FlipY().draw((32, 32), [])}


def test_a_ratio_above_one_is_refused():
    with pytest.raises(ModelConfigError, match=r'transform\.ratio'):
        AlignedCrop(ratio=(0.5, 1.5))

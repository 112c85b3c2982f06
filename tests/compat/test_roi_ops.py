"""Operators on regions of interest against loops over bins and points."""

import math

import pytest
import torch

import isda_suite  # noqa: F401  offers mmcv._ext

ROIS = [
    [0, 1.3, 2.1, 9.7, 8.2],
    [1, 0.0, 0.0, 4.0, 3.0],
    [0, 8.0, 6.5, 15.5, 13.0],  # reaches beyond the map
    [1, 5.0, 5.0, 5.5, 5.2],  # smaller than a cell
]


@pytest.fixture
def features():
    return torch.randn(2, 3, 7, 8, dtype=torch.double, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def rois():
    return torch.tensor(ROIS, dtype=torch.double)


def bilinear(plane, y, x):
    height, width = plane.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    upper = plane[top, left] * (1 - dx) + plane[top, right] * dx
    lower = plane[bottom, left] * (1 - dx) + plane[bottom, right] * dx
    return float(upper * (1 - dy) + lower * dy)


def pooled_by_loops(features, rois, size, scale, ratio, aligned, reduce, shift=None):
    """``shift(n, i, j, width, height)`` moves the points of a bin by (x, y)."""
    output = features.new_zeros(len(rois), features.shape[1], size, size)
    for n, (image, *box) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (c * scale - (0.5 if aligned else 0) for c in box)
        width, height = x2 - x1, y2 - y1
        if not aligned:
            width, height = max(width, 1), max(height, 1)
        rows, columns = (ratio or math.ceil(length / size) for length in (height, width))
        for i in range(size):
            for j in range(size):
                dx, dy = shift(n, i, j, width, height) if shift else (0, 0)
                points = [
                    (
                        y1 + (i + (a + 0.5) / rows) * height / size + dy,
                        x1 + (j + (b + 0.5) / columns) * width / size + dx,
                    )
                    for a in range(rows)
                    for b in range(columns)
                ]
                for c in range(features.shape[1]):
                    plane = features[int(image), c]
                    output[n, c, i, j] = reduce([bilinear(plane, y, x) for y, x in points])
    return output


def mean(values):
    return sum(values) / len(values)


@pytest.mark.parametrize('mode, reduce', [('avg', mean), ('max', max)])
@pytest.mark.parametrize('ratio, aligned', [(2, True), (0, True), (0, False)])
def test_roi_align(features, rois, mode, reduce, ratio, aligned):
    from mmcv.ops import roi_align

    found = roi_align(features, rois, 2, 0.5, ratio, mode, aligned)
    expected = pooled_by_loops(features, rois, 2, 0.5, ratio, aligned, reduce)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_roi_align_gradient(features, rois, mode):
    from mmcv.ops import roi_align

    features.requires_grad_()
    assert torch.autograd.gradcheck(lambda f: roi_align(f, rois, 2, 0.5, 0, mode, True), features)


def test_roi_align_without_regions_and_in_bfloat16(features, rois):
    from mmcv.ops import roi_align

    for mode in ('avg', 'max'):
        empty = features.clone().requires_grad_()
        output = roi_align(empty, rois[:0], 2, 0.5, 0, mode, True)
        output.sum().backward()
        assert output.shape == (0, 3, 2, 2)
        assert (empty.grad == 0).all()
        narrow = features.bfloat16().requires_grad_()
        found = roi_align(narrow, rois.bfloat16(), 2, 0.5, 2, mode, True)
        exact = roi_align(narrow.float(), rois.bfloat16().float(), 2, 0.5, 2, mode, True)
        torch.testing.assert_close(found, exact.bfloat16())
        found.sum().backward()
        assert narrow.grad.abs().sum() > 0


@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_a_region_without_area_reads_nothing_and_gets_no_gradient(features, mode):
    from mmcv.ops import roi_align

    features.requires_grad_()
    point = torch.tensor([[0, 3.0, 3.0, 3.0, 3.0]], dtype=torch.double)
    output = roi_align(features, point, 2, 1.0, 0, mode, True)
    (gradient,) = torch.autograd.grad(output.sum(), features)
    assert (output == 0).all()
    assert (gradient == 0).all()


def test_roi_pool_takes_the_maximum_of_unrounded_bins(features, rois):
    from mmcv.ops import roi_pool

    found = roi_pool(features, rois, 2, 0.5)
    height, width = features.shape[2:]
    for n, (image, x1, y1, x2, y2) in enumerate(rois.tolist()):
        for i in range(2):
            for j in range(2):
                rows, columns = (
                    range(
                        min(max(math.floor(low * 0.5 + k * (high + 1 - low) * 0.25), 0), cells),
                        min(
                            max(math.ceil(low * 0.5 + (k + 1) * (high + 1 - low) * 0.25), 0), cells
                        ),
                    )
                    for low, high, k, cells in ((y1, y2, i, height), (x1, x2, j, width))
                )
                for c in range(features.shape[1]):
                    plane = features[int(image), c]
                    values = [float(plane[y, x]) for y in rows for x in columns]
                    assert found[n, c, i, j].item() == max(values, default=0.0)


def test_roi_pool_gradient(features, rois):
    from mmcv.ops import roi_pool

    features.requires_grad_()
    assert torch.autograd.gradcheck(lambda f: roi_pool(f, rois, 2, 0.5), features)


def test_roi_pool_without_regions(features, rois):
    from mmcv.ops import roi_pool

    assert roi_pool(features, rois[:0], 2, 0.5).shape == (0, 3, 2, 2)


@pytest.mark.parametrize('ratio', [2, 0])
@pytest.mark.parametrize('with_offset', [True, False])
def test_deform_roi_pool(features, rois, ratio, with_offset):
    from mmcv.ops import deform_roi_pool

    generator = torch.Generator().manual_seed(5)
    offset = torch.randn(4, 2, 2, 2, dtype=torch.double, generator=generator)

    def shift(n, i, j, width, height):
        move = 0.3 * offset[n, :, i, j]
        return float(move[0]) * width, float(move[1]) * height

    given = offset if with_offset else None
    found = deform_roi_pool(features, rois, given, 2, 0.5, ratio, 0.3)
    used = shift if with_offset else None
    expected = pooled_by_loops(features, rois, 2, 0.5, ratio, True, mean, used)
    torch.testing.assert_close(found, expected)


def test_deform_roi_pool_gradients(features, rois):
    from mmcv.ops import deform_roi_pool

    offset = torch.randn(4, 2, 2, 2, dtype=torch.double, generator=torch.Generator().manual_seed(5))
    features.requires_grad_()
    offset.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda f, o: deform_roi_pool(f, rois, o, 2, 0.5, 2, 0.3), (features, offset)
    )

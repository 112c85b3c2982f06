import cv2
import numpy as np
import pytest

from isda_suite.apis.results.polygons import polygons_of


def mask_of(*rows):
    return np.array([[sign == '#' for sign in row] for row in rows])


def area(ring):
    x, y = ring[:, 0], ring[:, 1]
    return (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2


def filled(polygons, size_hw):
    """Draw polygons by the middles of the pixels, the holes last."""
    found = np.zeros(size_hw, np.uint8)
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    for polygon in polygons:
        inside = np.zeros(size_hw, int)
        for ring in polygon:
            contour = ring.reshape(-1, 1, 2).astype(np.float32)
            for row, column in zip(rows.flat, columns.flat, strict=True):
                middle = (float(column) + 0.5, float(row) + 0.5)
                inside[row, column] += cv2.pointPolygonTest(contour, middle, False) > 0
        found += (inside % 2).astype(np.uint8)
    return found


def check_valid(polygons, mask):
    for outer, *holes in polygons:
        assert area(outer) > 0 and all(area(hole) < 0 for hole in holes)
        for ring in (outer, *holes):
            assert (ring[0] == ring[-1]).all()
            assert len({tuple(point) for point in ring[:-1].tolist()}) == len(ring) - 1
    assert sum(area(ring) for polygon in polygons for ring in polygon) == mask.sum()


def test_a_pixel_is_a_square_that_runs_counter_clockwise():
    (polygon,) = polygons_of(mask_of('...', '.#.'))
    (ring,) = polygon
    assert sorted(ring[:-1].tolist()) == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert ring.shape == (5, 2) and area(ring) == 1


def test_straight_edges_have_no_points_between_their_corners():
    ((ring,),) = polygons_of(np.ones((30, 40), bool))
    assert len(ring) == 5


def test_a_hole_is_a_ring_of_its_own_and_an_island_in_it_a_polygon():
    polygons = polygons_of(mask_of('#####', '#...#', '#.#.#', '#...#', '#####'))
    assert sorted(len(polygon) for polygon in polygons) == [1, 2]
    check_valid(polygons, mask_of('#####', '#...#', '#.#.#', '#...#', '#####'))


@pytest.mark.parametrize(
    'rows, sizes',
    [
        (('#.', '.#'), [1, 1]),  # two squares that share a corner
        (('###', '#.#', '##.'), [2]),  # a hole that touches the outside in a corner
        (('####', '#.##', '##.#', '####'), [3]),  # holes that share a corner
        (('.##', '#.#', '##.'), [1, 1]),
    ],
)
def test_rings_that_touch_in_a_point_stay_simple(rows, sizes):
    mask = mask_of(*rows)
    polygons = polygons_of(mask)
    assert sorted(map(len, polygons)) == sizes
    check_valid(polygons, mask)
    assert np.array_equal(filled(polygons, mask.shape), mask)


@pytest.mark.parametrize('seed', range(4))
def test_noise_comes_back_pixel_by_pixel(seed):
    mask = np.random.default_rng(seed).random((9, 11)) < 0.3 + 0.1 * seed
    polygons = polygons_of(mask)
    check_valid(polygons, mask)
    assert np.array_equal(filled(polygons, mask.shape), mask)


def test_an_empty_mask_has_no_polygon():
    assert polygons_of(np.zeros((4, 5), bool)) == []

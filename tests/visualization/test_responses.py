import numpy as np
import pytest

from isda_suite.visualization.responses import (
    ResponsePanel,
    ResponseRow,
    draw_heat,
    draw_outline,
    draw_responses,
)

PICTURE = np.random.RandomState(0).randint(0, 90, (40, 60, 3)).astype(np.uint8)


def test_stronger_responses_are_brighter_and_what_was_not_asked_is_grey():
    levels = np.linspace(0, 1, 5, dtype=np.float32)
    brightness = [draw_heat(PICTURE, np.full((40, 60), level)).mean() for level in levels]
    assert brightness == sorted(brightness) and brightness[-1] > brightness[0] + 60
    unknown = draw_heat(PICTURE, np.full((40, 60), np.nan, np.float32))
    assert np.ptp(unknown, axis=2).max() == 0
    assert unknown.mean() > brightness[0]


def test_a_dark_picture_is_spread_over_all_greys():
    heat = draw_heat(PICTURE // 30, np.zeros((40, 60), np.float32))
    assert np.ptp(heat) > 60


def test_only_the_border_of_a_mask_is_drawn():
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:50] = True
    drawn = draw_outline(PICTURE, mask)
    changed = (drawn != PICTURE).any(axis=2)
    assert changed[10, 20:50].all() and not changed[14:26, 24:46].any() and not changed[:8].any()


def test_the_grid_has_a_row_a_query_and_a_block_a_model():
    def row():
        panels = [ResponsePanel(PICTURE, np.ones((10, 15), np.float32), 'x')] * 3
        return ResponseRow(PICTURE, np.ones((40, 60), bool), 'y', [panels, panels])

    one, two = (draw_responses([row()] * n, ['a', 'b'], cell_side=100) for n in (1, 2))
    assert two.shape[1] == one.shape[1] == 100 + 2 * (16 + 3 * 100 + 2 * 4)
    assert two.shape[0] - one.shape[0] == 100 + 24 + 4  # cell, caption, gap
    assert two.dtype == np.uint8


def test_a_model_without_a_query_has_an_empty_panel():
    row = ResponseRow(
        PICTURE, np.ones((40, 60), bool), 'y', [[ResponsePanel(PICTURE, None, 'no query')]]
    )
    drawn = draw_responses([row], ['a'], cell_side=60)
    panel = drawn[48 : 48 + 40, 60 + 16 : 120 + 16]
    assert np.ptp(panel, axis=2).max() == 0


def test_a_grid_without_queries_is_an_error():
    with pytest.raises(ValueError, match='at least one query'):
        draw_responses([], ['a'])

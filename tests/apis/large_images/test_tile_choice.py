import pytest

from isda_suite.apis.large_images.coarse_logits import Cost
from isda_suite.apis.large_images.tile_choice import BLIND, Job, choose_tile, estimate_bytes
from isda_suite.engine.errors import ConfigError

COST = Cost(peak_bytes=300.0, logits=7 / 64, num_classes=7)
JOB = Job(seen_hw=(20_000, 20_000), size_hw=(20_000, 20_000), held_bytes=256 << 20)
MB = 1 << 20


def test_one_pass_is_chosen_where_its_estimate_fits():
    needed = estimate_bytes(COST, JOB, None)
    assert needed > 300 * 20_000**2
    assert choose_tile(COST, JOB, int(needed) + 1, 32, None).tile is None
    assert choose_tile(COST, JOB, int(needed) - 1, 32, None).tile == 2048


def test_smaller_tiles_are_chosen_for_less_memory():
    sides = [choose_tile(COST, JOB, mb * MB, 32, None).tile for mb in (4000, 1500, 900, 700)]
    assert sides == sorted(sides, reverse=True) and len(set(sides)) > 2
    for mb in (4000, 1500, 900, 700):
        assert choose_tile(COST, JOB, mb * MB, 32, None).estimate <= mb * MB


def test_memory_of_tiles_grows_with_the_width_of_a_picture_alone():
    long = Job((200_000, 20_000), (200_000, 20_000), 0)
    wide = Job((20_000, 200_000), (20_000, 200_000), 0)
    square = Job((20_000, 20_000), (20_000, 20_000), 0)
    assert estimate_bytes(COST, long, 1024) == estimate_bytes(COST, square, 1024)
    assert estimate_bytes(COST, wide, 1024) > estimate_bytes(COST, square, 1024)


def test_too_little_memory_is_an_error_with_what_is_needed():
    with pytest.raises(ConfigError, match=r'100 MB are left .*need about \d+ MB: allow more'):
        choose_tile(COST, JOB, 100 * MB, 32, None)


def test_without_a_measurement_middling_tiles_are_taken():
    unknown = Cost(None, 7 / 64, 7)
    assert choose_tile(unknown, JOB, 4000 * MB, 32, None).tile == BLIND
    small = Job((500, 500), (500, 500), 0)
    assert choose_tile(unknown, small, 4000 * MB, 32, None).tile is None
    assert choose_tile(COST, JOB, None, 32, None).tile == BLIND


def test_sides_and_overlaps_are_multiples_of_what_tiles_start_at():
    choice = choose_tile(COST, JOB, 4000 * MB, 96, 100)
    assert choice.tile % 96 == 0 and choice.overlap == 192

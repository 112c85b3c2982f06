"""Bytes that once found a fault, and a few random ones."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isda_suite.engine.memory import peak_of
from tests.fuzz.targets import TARGETS, examples

SEEDS = sorted((Path(__file__).parent / 'seeds').glob('*/*'))


@pytest.mark.parametrize('seed', SEEDS, ids=[f'{s.parent.name}/{s.name}' for s in SEEDS])
def test_a_fault_that_was_found_stays_mended(seed, tmp_path):
    content, target = seed.read_bytes(), TARGETS[seed.parent.name]
    _, peak = peak_of(lambda: target(content, tmp_path))
    assert (peak or 0) < 1e9


@pytest.mark.parametrize('name', TARGETS)
def test_sound_files_and_random_changes_of_them(name, tmp_path):
    sound = list(examples(name, tmp_path))
    for content in sound:
        TARGETS[name](content, tmp_path)

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(sound), st.integers(0), st.binary(max_size=40))
    def change(content, place, inserted):
        place %= len(content) + 1
        end = place + len(inserted) // 2
        TARGETS[name](content[:place] + inserted + content[end:], tmp_path)

    change()

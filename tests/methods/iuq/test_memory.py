"""Laws of the memory: capacity, order, balance, no background, nothing lost in a checkpoint."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.mask_coverage import bitmap_of, coverage_of
from isda_suite.methods.iuq import memory as memory_module
from isda_suite.methods.iuq.instance_pixels import choose_background, choose_pixels
from isda_suite.methods.iuq.memory import PixelMemory
from tests.methods.iuq.build import batch_of, build_iuq

FEW = settings(max_examples=40, deadline=None)


def numbered(first, count):
    """Rows that say when they came; float16 knows all whole numbers to 2048."""
    rows = torch.arange(first, first + count, dtype=torch.float32)[:, None].expand(-1, 2)
    about = torch.arange(first, first + count)[:, None].expand(-1, 3)
    return rows, about


@FEW
@given(capacity=st.integers(1, 12), sizes=st.lists(st.integers(0, 12), max_size=12))
def test_the_newest_rows_are_held_and_no_more_than_fit(capacity, sizes):
    memory = PixelMemory(capacity=capacity, min_fill=0, rows_per_step=None)
    pushed = 0
    for size in sizes:
        size = min(size, capacity)
        memory.push(*numbered(pushed, size))
        pushed += size
        assert len(memory) == min(pushed, capacity)
    found = memory.read()
    if pushed == 0:
        assert found is None
        return
    newest = list(range(max(pushed - capacity, 0), pushed))
    assert sorted(found.rows[:, 0].tolist()) == newest
    assert found.image_ids.tolist() == found.labels.tolist() == found.rows[:, 1].tolist()


@FEW
@given(capacity=st.integers(1, 8), size=st.integers(9, 40))
def test_more_rows_than_fit_are_a_random_part_of_them(capacity, size):
    memory = PixelMemory(capacity=capacity, min_fill=0)
    memory.push(*numbered(0, size))
    held = memory.read().image_ids.tolist()
    assert len(set(held)) == capacity and set(held) <= set(range(size))


@FEW
@given(count=st.integers(1, 60), per_step=st.integers(1, 60))
def test_reading_takes_a_view_that_is_spread_over_all_rows(count, per_step):
    memory = PixelMemory(capacity=64, min_fill=0, rows_per_step=per_step)
    memory.push(*numbered(0, count))
    found = memory.read()
    assert 1 <= len(found) <= per_step
    assert found.rows.untyped_storage().data_ptr() == memory.bank.untyped_storage().data_ptr()
    steps = set(np.diff(found.image_ids.numpy()).tolist())
    assert len(steps) <= 1  # evenly


@FEW
@given(
    capacity=st.integers(1, 9),
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    more=st.integers(1, 9),
    dtype=st.sampled_from(['float16', 'bfloat16', 'float32']),
)
def test_a_resumed_memory_goes_on_like_the_one_that_never_stopped(capacity, sizes, more, dtype):
    memories = [PixelMemory(capacity=capacity, min_fill=0, dtype=dtype) for _ in range(2)]
    pushed = 0
    for size in sizes:
        memories[0].push(*numbered(pushed, min(size, capacity)))
        pushed += min(size, capacity)
    memories[0].fresh_id()
    memories[1].load_state_dict(memories[0].state_dict())
    for memory in memories:
        memory.push(*numbered(pushed, min(more, capacity)))
    first, second = memories
    assert first.pointer == second.pointer and first.count == second.count
    assert torch.equal(first.bank[: first.count], second.bank[: second.count])
    assert torch.equal(first.about[: first.count], second.about[: second.count])
    assert first.fresh_id() == second.fresh_id() == -2


def test_a_memory_of_another_size_is_not_taken_up():
    large, small = PixelMemory(capacity=9, min_fill=0), PixelMemory(capacity=5, min_fill=0)
    large.push(*numbered(0, 7))
    with pytest.raises(ModelConfigError, match='7 pixels, this run 5'):
        small.load_state_dict(large.state_dict())
    small.push(*numbered(0, 5))
    small.push(*numbered(5, 2))
    with pytest.raises(ModelConfigError, match='capacity'):
        large.load_state_dict(small.state_dict())


def test_a_hundred_thousand_pixels_take_at_most_60_mb():
    memory = PixelMemory()
    memory.push(torch.zeros(1, 256), torch.zeros(1, 3, dtype=torch.long))
    sizes = [t.numel() * t.element_size() for t in (memory.bank, memory.about)]
    assert memory.bank.shape == (100_000, 256) and sum(sizes) <= 60e6


def test_float16_holds_numbers_beyond_its_range_as_its_largest():
    memory = PixelMemory(capacity=2, min_fill=0)
    memory.push(torch.tensor([[1e9], [-1e9]]), torch.zeros(2, 3, dtype=torch.long))
    assert memory.read().rows.flatten().tolist() == [65504.0, -65504.0]


def test_nothing_is_read_below_the_least_filling():
    memory = PixelMemory(capacity=9, min_fill=3)
    memory.push(*numbered(0, 2))
    assert memory.read() is None
    memory.push(*numbered(2, 1))
    assert len(memory.read()) == 3


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ({'sampling': 'some'}, 'memory.sampling'),
        ({'dtype': 'int8'}, 'memory.dtype'),
        ({'capacity': 0}, 'memory.capacity'),
    ],
)
def test_options_that_make_no_sense_are_refused(option, message):
    with pytest.raises(ModelConfigError, match=message):
        PixelMemory(**option)


masks_of = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 14), st.integers(0, 14)),
    max_size=5,
)


def drawn(boxes):
    masks = torch.zeros(len(boxes), 32, 32, dtype=torch.uint8)
    for mask, (x, y, w, h) in zip(masks, boxes, strict=True):
        mask[y : y + h, x : x + w] = 1
    return masks


@FEW
@given(boxes=masks_of, count=st.integers(1, 20))
def test_every_instance_gives_the_same_number_of_its_own_pixels(boxes, count):
    masks = drawn(boxes)
    coverage = coverage_of(masks, (8, 8))
    gt_inds, cells = choose_pixels(coverage, count)
    there = (masks.flatten(1).sum(1) > 0).nonzero().flatten().tolist()
    assert gt_inds.tolist() == [i for i in there for _ in range(count)]
    # No background: the instance covers something of each of its pixels.
    assert bool((coverage.flatten(1)[gt_inds, cells] > 0).all())
    for i in there:
        own, inside = cells[gt_inds == i], (coverage[i] >= 0.5).sum()
        assert len(own.unique()) == min(count, max(int(inside), 1))  # repeated only if it must be


@FEW
@given(boxes=masks_of, count=st.integers(1, 20))
def test_capped_pixels_are_the_padded_ones_without_repeats(boxes, count):
    gt_inds, cells = choose_pixels(coverage_of(drawn(boxes), (8, 8)), count, 'cap')
    pairs = list(zip(gt_inds.tolist(), cells.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    padded = set(choose_pixels(coverage_of(drawn(boxes), (8, 8)), count)[0].tolist())
    assert set(gt_inds.tolist()) == padded


@FEW
@given(boxes=masks_of, count=st.integers(1, 20))
def test_pixels_of_the_whole_image_are_some_of_all_instance_pixels(boxes, count):
    coverage = coverage_of(drawn(boxes), (8, 8))
    every = set(zip(*(x.tolist() for x in choose_pixels(coverage, count, 'dense')), strict=True))
    found = list(
        zip(*(x.tolist() for x in choose_pixels(coverage, count, 'per_image')), strict=True)
    )
    assert set(found) <= every
    assert len(found) == len(set(found)) == min(len(boxes) * count, len(every))


def test_all_ranks_hold_the_pixels_of_all_ranks_in_the_order_of_the_ranks(monkeypatch):
    """The second rank saw no instance yet and does not know how long a row is."""
    own, about = numbered(5, 3)
    empty, nothing = torch.zeros(0, 0).half(), torch.zeros(0, 3, dtype=torch.long)
    calls = []

    def all_gather(mine):
        """Give what rank 1 would send in the same call, of the shape that rank 0 sends."""
        other = [torch.tensor(empty.shape), empty, nothing][len(calls)]
        calls.append(mine)
        padded = mine.new_zeros(mine.shape)
        if len(calls) == 1:
            padded = other
        return [mine, padded]

    monkeypatch.setattr(memory_module, 'get_world_size', lambda: 2)
    monkeypatch.setattr(memory_module, 'all_gather', all_gather)
    memory = PixelMemory(capacity=9, min_fill=0)
    memory.push(own, about)
    assert len(calls) == 3 and memory.read().image_ids.tolist() == [5, 6, 7]
    # And as rank 1: what it sends has the shape of the longest, and it stores the other's rows.
    sent = [torch.tensor(own.shape), own.half(), about]
    calls.clear()

    def all_gather_of_rank_1(mine):
        calls.append(mine)
        assert mine.shape == sent[len(calls) - 1].shape
        return [sent[len(calls) - 1], mine]

    monkeypatch.setattr(memory_module, 'all_gather', all_gather_of_rank_1)
    other = PixelMemory(capacity=9, min_fill=0)
    other.push(empty, nothing)
    assert torch.equal(other.read().rows, memory.read().rows)
    assert torch.equal(other.read().image_ids, memory.read().image_ids)


def test_masks_larger_than_the_batch_are_refused():
    with pytest.raises(ModelConfigError, match='pad_mask'):
        bitmap_of(np.zeros((1, 9, 8), np.uint8), (8, 8), torch.device('cpu'))


@FEW
@given(
    boxes=masks_of, count=st.integers(0, 20), inside=st.tuples(st.integers(0, 8), st.integers(0, 8))
)
def test_background_is_where_no_instance_is_and_the_image_is(boxes, count, inside):
    coverage = coverage_of(drawn(boxes), (8, 8))
    cells = choose_background(coverage, inside, count)
    assert len(cells.unique()) == len(cells)
    assert bool((coverage.flatten(1)[:, cells] == 0).all())
    assert bool((cells // 8 < inside[0]).all()) and bool((cells % 8 < inside[1]).all())
    free = (coverage.sum(0) == 0)[: inside[0], : inside[1]].sum()
    assert len(cells) == min(count, int(free))


@pytest.mark.parametrize('family', ['solov2', 'condinst'])
def test_background_is_stored_only_if_it_is_asked_for(family):
    held = {}
    for background in (0, 30):
        memory = dict(min_fill=1, rows_per_step=None, per_instance=10, background=background)
        model = build_iuq(family, equivariance=False, memory=memory)
        model.loss(*batch_of(first_id=3))
        held[background] = model.terms[0].memory.read()
        losses = model.loss(*batch_of(first_id=5))
        assert float(losses['loss_unique'].detach()) > 0
    assert len(held[0]) == 50 and bool((held[0].instance_ids >= 0).all())
    background = held[30].instance_ids == -1
    assert int(background.sum()) == 60 and len(held[30]) == 110
    assert bool((held[30].labels[background] == -1).all())
    assert bool((held[30].labels[~background] >= 0).all())
    assert held[30].image_ids[background].unique().tolist() == [3, 4]


def test_regions_of_instances_have_no_background():
    with pytest.raises(ModelConfigError, match=r'memory\.background: expected 0, got 5'):
        build_iuq('queryinst', memory=dict(background=5))
    with pytest.raises(ModelConfigError, match=r'memory\.background'):
        PixelMemory(background=-1)

"""The benchmark of IUQ: that what it compares is the same thing, and what it refuses."""

import pytest
import torch

from benchmarks import iuq, iuq_steps


def test_the_base_losses_of_a_wrapped_step_are_those_of_the_plain_one(monkeypatch):
    monkeypatch.setattr(iuq_steps, 'CAPACITY', 2000)
    variants = {iuq.PLAIN: None, 'equivariance every step': {}}
    steps = {
        name: iuq_steps.make_step('solov2', options, side=64, objects=2)
        for name, options in variants.items()
    }
    iuq_steps.require_equal_base(steps)


@pytest.mark.parametrize(
    ('found', 'message'),
    [
        (dict(loss_mask=1.5, loss_unique=1.0), 'other base losses'),
        (dict(loss_mask=1.0), 'expected .*loss_unique'),
    ],
)
def test_steps_that_lack_or_change_a_loss_are_not_timed(found, message):
    steps = {iuq.PLAIN: lambda: dict(loss_mask=1.0), 'uniqueness': lambda: found}
    with pytest.raises(SystemExit, match=message):
        iuq_steps.require_equal_base(steps)


def test_the_dense_term_is_ours_with_its_gradient():
    rows = iuq_steps.make_rows(16, 3000)[0].half()
    runs = {name: iuq_steps.make_uniqueness(name, rows) for name in iuq.UNIQUENESS}
    assert max(iuq.require_equal_terms(runs).values()) < 1e-5
    runs['dense'] = lambda: tuple(1.01 * one for one in runs['ours']())
    with pytest.raises(SystemExit, match='terms differ'):
        iuq.require_equal_terms(runs)


def test_only_our_memory_is_read_in_place():
    rows, about = iuq_steps.make_rows(iuq.WIDTH, 1200)
    ours, theirs = iuq.OwnMemory(), iuq.ConcatenatedMemory()
    for store in (ours, theirs):
        store.push(rows, about)
        store.push(rows, about)
    assert ours.reads_views() and not theirs.reads_views()
    assert theirs.size() == 2400 * (4 * iuq.WIDTH + 24)
    assert ours.size() == iuq.CAPACITY * (2 * iuq.WIDTH + 24)
    assert torch.equal(ours.read()[0].rows, theirs.rows.half())


def test_a_step_every_fourth_time_is_the_mean_of_four(monkeypatch):
    calls = dict.fromkeys([iuq.PLAIN, *iuq.variants_of('isda')], 0)

    def make_step(model, options, side, objects):
        name = next((k for k, v in iuq.variants_of('isda').items() if v == options), iuq.PLAIN)

        def step():
            calls[name] += 1
            return {}

        return step

    def take_turns(actions, rounds, warm_ups):
        for action in actions.values():
            action()
        return {name: {'cpu_median_s': 4.0} for name in actions}

    monkeypatch.setattr(iuq, 'make_step', make_step)
    monkeypatch.setattr(iuq, 'take_turns', take_turns)
    monkeypatch.setattr(iuq, 'require_equal_base', lambda steps: None)
    args = iuq.argparse.Namespace(model='isda', side=None, objects=8, rounds=1)
    (row,) = iuq.compare_steps(args)
    assert calls.pop(iuq.EVERY_FOURTH) == 4 and set(calls.values()) == {1}
    assert row[iuq.EVERY_FOURTH]['cpu_median_s'] == 1
    assert row['equivariance every step / plain']['time'] == 1
    assert row['reached']

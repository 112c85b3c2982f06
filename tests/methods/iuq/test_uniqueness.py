"""The uniqueness term: its formula, its chunks, and who may take part."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isda_suite.layers.errors import ModelConfigError
from isda_suite.methods.isda import ISDAAdapter
from isda_suite.methods.iuq import uniqueness
from isda_suite.methods.iuq.uniqueness import (
    Scratch,
    UniquenessLoss,
    spread_queries,
    weighted_focal_loss,
)

FEW = settings(max_examples=30, deadline=None)


def dot(queries, rows):
    return queries @ rows.T


@FEW
@given(logit=st.floats(-30, 30), gamma=st.floats(0, 4), alpha=st.floats(0.01, 1))
def test_the_focal_form_is_the_closed_one(logit, gamma, alpha):
    p = 1 / (1 + math.exp(-logit))
    expected = alpha * p**gamma * math.log1p(math.exp(logit))
    value = UniquenessLoss(alpha=alpha, gamma=gamma)(torch.tensor([logit], dtype=torch.float64))
    assert float(value) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_focal_form_is_the_general_focal_loss_with_target_zero():
    logits = torch.randn(5, 7)
    expected = weighted_focal_loss(logits, torch.zeros_like(logits), 0.3, 1.5).mean()
    torch.testing.assert_close(UniquenessLoss(alpha=0.3, gamma=1.5)(logits), expected)


@pytest.mark.parametrize('mode', ['focal', 'bce', 'thresholded_mean', 'max'])
def test_more_response_is_never_cheaper(mode):
    logits = torch.linspace(-8, 8, 50)
    values = [float(UniquenessLoss(mode=mode)(x[None])) for x in logits]
    assert values == sorted(values) and values[0] < values[-1]


@pytest.mark.parametrize('mode', ['focal', 'bce', 'thresholded_mean', 'max'])
def test_chunks_give_value_and_gradient_of_the_whole(mode, monkeypatch):
    loss = UniquenessLoss(mode=mode)
    queries, rows = torch.randn(6, 8, requires_grad=True), torch.randn(500, 8)
    allowed = torch.rand(6, 500) > 0.3
    values = loss.elements(dot(queries, rows))
    if mode == 'max':
        whole = (values * allowed).amax(1).sum()
    else:
        whole = ((values * allowed).sum(1) / allowed.sum(1)).sum()
    expected = torch.autograd.grad(whole, queries)[0]
    monkeypatch.setattr(uniqueness, '_CHUNK_NUMBERS', 6 * 64)
    chunked = loss.on_rows(queries, rows, allowed, dot)
    torch.testing.assert_close(chunked, whole)
    torch.testing.assert_close(torch.autograd.grad(2 * chunked, queries)[0], 2 * expected)


@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(gamma=1.5, alpha=0.4, temperature=3.0),
        dict(ignore_above=0.6),
        dict(mode='bce', temperature=2.0),
        dict(mode='thresholded_mean', keep_from=0.2, keep_up_to=0.7),
    ],
)
def test_slopes_are_those_that_autograd_finds(options):
    loss = UniquenessLoss(**options)
    logits = torch.cat([torch.linspace(-90, 90, 61), torch.randn(39)]).double().view(4, 25)
    leaf = logits.clone().requires_grad_()
    expected = loss.elements(leaf)
    values, slopes = loss.values_and_slopes(logits, Scratch(logits))
    torch.testing.assert_close(values, expected.detach())
    torch.testing.assert_close(slopes, torch.autograd.grad(expected.sum(), leaf)[0])


def test_scratch_is_the_same_memory_for_every_smaller_shape():
    scratch = Scratch(torch.zeros(()))
    large, small = scratch.take('p', (3, 4)), scratch.take('p', (2, 5))
    assert small.shape == (2, 5) and small.is_contiguous()
    assert large.data_ptr() == small.data_ptr() != scratch.take('q', (2,)).data_ptr()


@pytest.mark.parametrize('allowed', [torch.arange(300) > 20, torch.rand(5, 300) > 0.3])
def test_dot_products_need_no_graph_for_the_same_gradient(allowed, monkeypatch):
    monkeypatch.setattr(uniqueness, '_CHUNK_NUMBERS', 5 * 64)
    rows = torch.randn(600, 8).half()[::2]  # as the memory gives them: a view with gaps
    values = torch.randn(5, 8)
    found = []
    for respond in (dot, ISDAAdapter(None).respond):
        queries = values.clone().requires_grad_()
        term = UniquenessLoss().on_rows(queries, rows, allowed, respond)
        found.append((term, torch.autograd.grad(term, queries)[0]))
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_an_answer_of_one_s_own_is_never_taken_for_a_dot_product():
    class Doubled(ISDAAdapter):
        def respond(self, queries, rows):
            return 2 * super().respond(queries, rows)

    queries, rows = torch.randn(3, 4, requires_grad=True), torch.randn(9, 4)
    every = torch.ones(9, dtype=torch.bool)
    found = [
        UniquenessLoss().on_rows(queries * factor, rows, every, adapter.respond)
        for factor, adapter in ((1, Doubled(None)), (2, ISDAAdapter(None)))
    ]
    torch.testing.assert_close(*found)
    torch.testing.assert_close(*(torch.autograd.grad(one, queries)[0] for one in found))


def test_the_gradient_reaches_queries_and_never_the_memory():
    queries, rows = torch.randn(3, 4, requires_grad=True), torch.randn(9, 4, requires_grad=True)
    UniquenessLoss().on_rows(queries, rows, torch.ones(9, dtype=torch.bool), dot).backward()
    assert rows.grad is None
    assert bool((queries.grad.abs().sum(1) > 0).all())


def test_rows_that_are_not_allowed_change_nothing():
    queries, rows = torch.randn(3, 4, requires_grad=True), torch.randn(9, 4)
    allowed = torch.arange(9) < 5
    few = UniquenessLoss().on_rows(queries, rows[:5], allowed[:5], dot)
    torch.testing.assert_close(UniquenessLoss().on_rows(queries, rows, allowed, dot), few)
    none = UniquenessLoss().on_rows(queries, rows, torch.zeros(9, dtype=torch.bool), dot)
    assert float(none) == 0
    none.backward()
    assert float(queries.grad.abs().sum()) == 0


def test_half_precision_rows_are_computed_in_single():
    queries, rows = torch.randn(3, 4), torch.randn(9, 4).half()
    every = torch.ones(9, dtype=torch.bool)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        mixed = UniquenessLoss().on_rows(queries.bfloat16(), rows, every, dot)
    exact = UniquenessLoss().on_rows(queries.bfloat16().float(), rows.float(), every, dot)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, exact)


def test_rows_that_stand_for_many_pixels_count_by_their_mean():
    queries, rows = torch.randn(3, 4), torch.randn(5, 4)
    every = torch.ones(5, dtype=torch.bool)

    def respond(q, r):
        return torch.stack([dot(q, r), -dot(q, r)], dim=-1)

    loss = UniquenessLoss(mode='bce')
    leaf = queries.requires_grad_()
    expected = loss.elements(respond(leaf, rows)).mean(-1).mean(1).sum()
    found = loss.on_rows(leaf, rows, every, respond)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(one, leaf)[0] for one in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_thresholds_keep_what_lies_between():
    logits = torch.tensor([0.2, 0.5, 0.9]).logit()
    assert float(UniquenessLoss('thresholded_mean', keep_up_to=0.6)(logits)) == pytest.approx(
        0.7 / 3
    )
    assert float(UniquenessLoss('thresholded_mean', keep_from=0.6)(logits)) == pytest.approx(0.3)
    ignoring = UniquenessLoss(ignore_above=0.6).elements(logits)
    assert ignoring[2] == 0 and bool((ignoring[:2] > 0).all())


def test_no_response_is_a_connected_zero():
    logits = torch.zeros(0, 5, requires_grad=True)
    UniquenessLoss()(logits).backward()
    assert logits.grad.shape == (0, 5)


@pytest.mark.parametrize('option', [{'mode': 'hinge'}, {'same_class': 'maybe'}])
def test_unknown_options_are_refused(option):
    with pytest.raises(ModelConfigError, match=f'uniqueness.{next(iter(option))}'):
        UniquenessLoss(**option)


@FEW
@given(counts=st.lists(st.integers(1, 20), min_size=1, max_size=5), limit=st.integers(1, 30))
def test_chosen_queries_are_spread_over_the_instances(counts, limit):
    gt_inds = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    gt_inds = gt_inds[torch.randperm(len(gt_inds))]
    chosen = spread_queries(gt_inds, limit)
    assert len(chosen.unique()) == len(chosen) == min(limit, sum(counts))
    taken = torch.bincount(gt_inds[chosen], minlength=len(counts)).tolist()
    most = max(taken)
    # Nobody gets two more than another who has some left.
    assert all(n == c or n >= most - 1 for n, c in zip(taken, counts, strict=True))

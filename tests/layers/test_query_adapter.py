"""Adapters are found by the class of the head, and leave a detector as it was."""

import pytest
import torch
from torch import nn

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.query_adapter import (
    FOUR_METHODS,
    QUERY_ADAPTERS,
    DotProductAdapter,
    QueryAdapter,
    Taps,
    find_adapter,
    recording,
)
from tests.methods.iuq.build import FAMILIES, batch_of, build_plain

NAMES = {
    'condinst': 'CondInstAdapter', 'solov2': 'SOLOv2Adapter', 'isda': 'ISDAAdapter',
    'mask2former': 'Mask2FormerAdapter', 'queryinst': 'QueryInstAdapter',
    'sotr': 'SOTRAdapter', 'solq': 'SOLQAdapter', 'idip': 'IDIPAdapter',
    'sparseinst': 'SparseInstAdapter',
}  # fmt: skip


class Head(nn.Module):
    def forward(self, x):
        return x + 1

    def double(self, x, by=2):
        return x * by


class Detector(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.mask_head = head


@pytest.fixture
def registered():
    """Register adapters for the length of a test."""
    added = []

    def register(**attributes):
        kind = type(attributes.pop('name'), (DotProductAdapter,), attributes)
        kind.__abstractmethods__ = frozenset()
        QUERY_ADAPTERS.register_module(module=kind)
        added.append(kind.__name__)
        return kind

    yield register
    for name in added:
        del QUERY_ADAPTERS.module_dict[name]


@pytest.mark.parametrize('family', FAMILIES)
def test_the_adapter_of_a_stock_head_is_found(family):
    model = build_plain(family)
    assert type(find_adapter(model)).__name__ == NAMES[family]
    assert type(find_adapter(model, NAMES[family])).__name__ == NAMES[family]


@pytest.mark.parametrize('family', FAMILIES)
def test_a_record_says_which_query_found_which_instance(family):
    model = build_plain(family)
    adapter = find_adapter(model)
    inputs, samples = batch_of()
    with adapter.record(model, samples) as records:
        model.loss(inputs, samples)
    assert len(records) == len(samples)
    for record, sample in zip(records, samples, strict=True):
        assert len(record.queries) == len(record.gt_inds) > 0
        assert int(record.gt_inds.max()) < len(sample.gt_instances)
        assert record.queries.requires_grad


@pytest.mark.parametrize('family', FAMILIES)
def test_recording_leaves_nothing_on_the_detector_also_after_an_error(family):
    model = build_plain(family)
    adapter = find_adapter(model)
    inputs, samples = batch_of()

    def state():
        return [
            (name, sorted(vars(module)), len(module._forward_hooks))
            for name, module in model.named_modules()
        ]

    model.loss(inputs, samples)  # heads keep notes of their first pass
    before = state()
    with adapter.record(model, samples):
        model.loss(inputs, samples)
    assert state() == before
    with pytest.raises(ZeroDivisionError), adapter.record(model, samples):
        raise ZeroDivisionError
    assert state() == before


def test_an_unknown_head_gets_the_list_of_adapters_and_methods():
    with pytest.raises(ModelConfigError) as error:
        find_adapter(Detector(Head()))
    for word in ('no adapter fits', 'Head', *NAMES.values(), *FOUR_METHODS):
        assert word in str(error.value), word


def test_an_unknown_adapter_is_refused_with_the_list():
    with pytest.raises(ModelConfigError, match=r"'Mine' does not exist.*SOLOv2Adapter"):
        find_adapter(Detector(Head()), 'Mine')


def test_sub_classes_of_a_head_count_and_the_nearest_adapter_wins(registered):
    class Special(Head):
        pass

    general = registered(name='GeneralAdapter', heads=('Head',))
    assert type(find_adapter(Detector(Special()))) is general
    special = registered(name='SpecialAdapter', heads=('Special',))
    assert type(find_adapter(Detector(Special()))) is special
    assert type(find_adapter(Detector(Head()))) is general
    assert find_adapter(Detector(Special())).head.__class__ is Special


def test_the_four_methods_are_those_an_adapter_must_have():
    assert set(QueryAdapter.__abstractmethods__) == set(FOUR_METHODS)
    assert set(DotProductAdapter.__abstractmethods__) == {'record', 'mask_loss'}


def test_taps_see_what_is_called_and_change_nothing():
    head = Head()
    with Taps() as taps:
        outputs, calls = taps.outputs_of(head), taps.calls_of(head, 'double')
        assert head(torch.tensor(1)) == 2 and head.double(3, by=4) == 12
        inner = taps.calls_of(head, 'double')  # watched twice
        head.double(1)
    assert [int(x) for x in outputs] == [2]
    assert [(c.args, c.kwargs, c.result) for c in calls] == [((3,), {'by': 4}, 12), ((1,), {}, 2)]
    assert len(inner) == 1 and 'double' not in vars(head)


def test_a_method_of_the_instance_is_put_back():
    head = Head()
    head.double = own = lambda x: x
    with Taps() as taps:
        taps.calls_of(head, 'double')
    assert head.double is own


def test_records_are_read_at_the_end_of_the_block():
    with recording(lambda taps: lambda: ['a record']) as records:
        assert records == []
    assert records == ['a record']

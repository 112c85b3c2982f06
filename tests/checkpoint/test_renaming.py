import pytest
import torch

from isda_suite.checkpoint.errors import CheckpointError
from isda_suite.checkpoint.renaming import (
    NameTable,
    Rule,
    convert_state_dict,
    detect_style,
    drop_class_layer,
    invert,
)

TABLE = NameTable(
    style='old',
    rules=(
        Rule(r'head\.(\d+)\.(weight|bias)', r'branch.\2_of_\1'),
        Rule(r'head\.scale', 'scale', transform=torch.neg, inverse=torch.neg),
        Rule(r'head\.box\..+', None),
        Rule(r'body\.(.+)', r'backbone.\1'),
    ),
    marks=(r'head\..+',),
    copies=(r'head\.(?P<copy>\d+)\.(weight|bias)',),
    class_layer=r'branch\..+',
)
STATE = {
    'head.0.weight': torch.ones(3, 2),
    'head.1.weight': torch.ones(3, 2),
    'head.scale': torch.tensor(2.0),
    'head.box.weight': torch.zeros(1),
    'body.conv.weight': torch.zeros(4),
}


def test_every_entry_is_renamed_dropped_or_transformed():
    got, report = convert_state_dict(STATE, TABLE)
    names = ['branch.weight_of_0', 'branch.weight_of_1', 'scale', 'backbone.conv.weight']
    assert list(got) == report.filled == names
    assert got['scale'] == -2
    assert report.unused == ['head.box.weight'] and report.new is None
    assert 'filled 4' in str(report) and 'unused 1' in str(report)


def test_new_and_misshaped_entries_are_reported_against_a_model():
    shapes = {
        'branch.weight_of_0': (3, 2),
        'branch.weight_of_1': (5, 2),
        'scale': (),
        'backbone.conv.weight': (4,),
        'neck.weight': (1,),
    }
    _, report = convert_state_dict(STATE, TABLE, shapes)
    assert report.new == ['neck.weight']
    assert [(m.name, m.found, m.expected) for m in report.mismatched] == [
        ('branch.weight_of_1', (3, 2), (5, 2))
    ]
    assert 'branch.weight_of_1 (3, 2) -> (5, 2)' in str(report)
    del shapes['scale']
    with pytest.raises(CheckpointError, match='no entry for 1 converted names: scale'):
        convert_state_dict(STATE, TABLE, shapes)


def test_unknown_names_are_an_error():
    with pytest.raises(CheckpointError, match="2 names are unknown to the style 'old': tail, ears"):
        convert_state_dict({**STATE, 'tail': torch.zeros(1), 'ears': torch.zeros(1)}, TABLE)


def test_two_names_becoming_one_are_an_error():
    table = NameTable('old', (Rule(r'(a|b)\.w', 'c.w'),), marks=())
    with pytest.raises(CheckpointError, match=r'both a\.w and b\.w would become c\.w'):
        convert_state_dict({'a.w': torch.zeros(1), 'b.w': torch.zeros(1)}, table)


def test_unequal_copies_are_an_error_unless_the_last_is_wanted():
    state = {**STATE, 'head.1.weight': torch.full((3, 2), 7.0)}
    with pytest.raises(CheckpointError, match=r'head\.0\.weight \.\. head\.1\.weight'):
        convert_state_dict(state, TABLE)
    got, _ = convert_state_dict(state, TABLE, unequal_copies='last')
    assert got['branch.weight_of_0'].eq(7).all() and got['branch.weight_of_1'].eq(7).all()
    assert STATE['head.0.weight'].eq(1).all()
    with pytest.raises(ValueError, match="'first'"):
        convert_state_dict(state, TABLE, unequal_copies='first')


def test_a_round_trip_gives_the_source_back():
    got, _ = convert_state_dict(STATE, TABLE)
    back, _ = convert_state_dict(got, invert(TABLE))
    kept = {k: v for k, v in STATE.items() if 'box' not in k}
    assert back.keys() == kept.keys()
    assert all(torch.equal(back[k], v) for k, v in kept.items())


@pytest.mark.parametrize(
    'rule',
    [
        Rule(r'a\.(\d+)\.w', 'a.w'),
        Rule(r'a\.\d+', 'a'),
        Rule(r'(a|b)(c)?', r'\1\1'),
        Rule(r'a', 'b', transform=torch.neg),
    ],
)
def test_a_rule_that_loses_something_has_no_inverse(rule):
    with pytest.raises(ValueError, match='no inverse'):
        invert(NameTable('old', (rule,), marks=()))


def test_styles_are_told_apart_by_names():
    other = NameTable('other', (), marks=(r'body\..+',), foreign=(r'head\..+',))
    assert detect_style(STATE, [other, TABLE]) is TABLE
    assert detect_style(['body.x'], [other, TABLE]) is other
    with pytest.raises(CheckpointError, match=r'x, y.*fit none of the known styles: other, old'):
        detect_style(['x', 'y'], [other, TABLE])


def test_a_refused_name_gives_its_reason():
    table = NameTable('old', TABLE.rules, marks=(), refused={r'head\.box\..+': 'boxes are out'})
    with pytest.raises(CheckpointError, match=r'boxes are out \(found head\.box\.weight\)'):
        convert_state_dict(STATE, table)


def test_the_class_layer_goes_when_its_size_differs():
    got, _ = convert_state_dict(STATE, TABLE)
    assert drop_class_layer(got, TABLE, 3) == (got, [])
    kept, dropped = drop_class_layer(got, TABLE, 8)
    assert dropped == ['branch.weight_of_0', 'branch.weight_of_1']
    assert list(kept) == ['scale', 'backbone.conv.weight']
    with pytest.raises(ValueError, match='at least 1'):
        drop_class_layer(got, TABLE, 0)

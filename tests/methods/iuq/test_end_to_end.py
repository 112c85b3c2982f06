"""IUQ through the real tools: wrong options, ranks without instances, what a checkpoint holds."""

import json

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.methods.rank_weights import assert_only_the_first_rank_had_targets, train_on_two_ranks

RANKS = """
_base_ = [{config!r}]
custom_imports = dict(imports=['isda_suite', 'tests.methods.rank_weights'],
                      allow_failed_imports=False)
default_hooks = dict(weights=dict(type='RankWeights', folder={folder!r}))
"""


@pytest.mark.parametrize(
    ('option', 'remedy'),
    [
        ('model.preset=papers', "preset: expected one of ('paper'"),
        ('model.memory.sampling=some', 'memory.sampling: expected one of'),
        ('model.adapter=Mine', "'Mine' does not exist. Registered adapters"),
        ('model.uniqueness.mode=hinge', 'uniqueness.mode: expected one of'),
    ],
)
def test_a_wrong_option_ends_with_code_2(train, option, remedy):
    code, said = train(f'+{option}')
    assert code == 2, said
    assert remedy in said


def test_a_checkpoint_holds_the_memory_beside_plain_weights(train, tmp_path):
    code, said = train('train_cfg.max_iters=2')
    assert code == 0, said
    (file,) = (tmp_path / 'w').glob('iter_*.pth')
    checkpoint = torch.load(file, weights_only=False)
    assert not [name for name in checkpoint['state_dict'] if 'detector' in name]
    state = checkpoint['iuq_state']
    assert state['steps'] == 2 and len(state['terms'][0]['bank']) > 0


def test_the_curves_are_in_the_log_and_in_tensorboard_and_not_in_the_sum(train, tmp_path):
    """The second image has no instance, so that responses are first measured in the third step."""
    code, said = train('train_cfg.max_iters=3', 'default_hooks.logger.interval=1')
    assert code == 0, said
    (file,) = (tmp_path / 'w').glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    steps = [line for line in lines if 'loss' in line]  # the others are of validations
    assert len(steps) == 3
    assert steps[0]['iuq/mem_size'] == 0 and steps[-1]['iuq/mem_size'] > 0
    assert 'iuq/p_mean' not in steps[0] and 0 < steps[-1]['iuq/p_mean'] < 1
    assert steps[-1]['iuq/p_mean'] <= steps[-1]['iuq/p_top1pct'] <= 1
    for step in steps:
        parts = [value for name, value in step.items() if 'loss' in name and name != 'loss']
        assert step['loss'] == pytest.approx(sum(parts), rel=1e-4)
    (log,) = (tmp_path / 'w').glob('*/*.log')
    assert 'iuq/p_top1pct: ' in log.read_text()
    events = EventAccumulator(str(file.parent)).Reload()
    for name in ('iuq/mem_size', 'iuq/p_mean', 'iuq/p_top1pct'):
        assert events.Scalars(name)[-1].value == pytest.approx(steps[-1][name])


def test_a_rank_without_instances_finishes_and_both_stay_equal(config, tmp_path):
    """The memory is gathered, and the normalisers of both passes are, in every step."""
    wrapper = tmp_path / 'ranks.py'
    wrapper.write_text(RANKS.format(config=str(config), folder=str(tmp_path)))
    _, ranks = train_on_two_ranks(wrapper, tmp_path)
    parts = ('backbone', 'neck', 'encoder', 'decoder', 'bbox_head', 'mask_feat_head')
    assert_only_the_first_rank_had_targets(*ranks, parts)

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from torch import nn

from isda_suite.engine.errors import ConfigError, NonFiniteLossError
from isda_suite.engine.hooks import FiniteLossHook, ProgressHook
from isda_suite.engine.hooks.class_count import check_class_count


class _Head(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes


def _model(**heads):
    model = nn.Module()
    for name, count in heads.items():
        model.add_module(name, _Head(count))
    return model


@pytest.fixture
def runner():
    hub = MessageHub('test_hooks')
    optim_wrapper = SimpleNamespace(get_lr=lambda: {'lr': [0.1, 0.01]}, clip_grad_kwargs=None)
    return SimpleNamespace(
        message_hub=hub,
        optim_wrapper=optim_wrapper,
        iter=6,
        epoch=0,
        max_iters=20,
        logger=logging.getLogger('test_hooks'),
        val_dataloader=[0, 1],
    )


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_a_non_finite_term_stops_with_everything_one_needs(runner, bad):
    sample = SimpleNamespace(metainfo={'img_path': 'a/7.jpg'})
    with pytest.raises(NonFiniteLossError) as raised:
        FiniteLossHook().after_train_iter(
            runner,
            6,
            {'data_samples': [sample]},
            {'loss': torch.tensor(bad), 'loss_cls': torch.tensor(2.5), 'name': 'x'},
        )
    for part in ('iteration 7', f'loss={bad}', 'loss_cls=2.5', '0.01, 0.1', 'a/7.jpg'):
        assert part in str(raised.value)


def test_finite_terms_pass(runner):
    FiniteLossHook().after_train_iter(runner, 0, None, {'loss': torch.tensor(1e30)})


def test_a_gradient_that_is_not_finite_stops_a_run_that_clips(runner):
    runner.message_hub.update_scalar('train/grad_norm', float('nan'))
    runner.optim_wrapper.clip_grad_kwargs = {'max_norm': 1}
    with pytest.raises(NonFiniteLossError, match='gradient norm nan'):
        FiniteLossHook().after_train_iter(runner, 0, None, {'loss': torch.tensor(1.0)})


def test_weights_that_a_gradient_has_spoilt_are_not_saved(runner):
    runner.model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    FiniteLossHook().before_save_checkpoint(runner, {})
    with torch.no_grad():
        runner.model[1].bias[0] = float('inf')
    with pytest.raises(NonFiniteLossError, match=r'1 of 4 weights .*\(1\.bias\)'):
        FiniteLossHook().before_save_checkpoint(runner, {})


def test_loss_scaling_may_skip_some_steps_but_not_many_in_a_row(runner):
    runner.optim_wrapper.loss_scaler = SimpleNamespace(is_enabled=lambda: True)
    hook = FiniteLossHook(patience=3)
    good, bad = {'loss': torch.tensor(1.0)}, {'loss': torch.tensor(float('inf'))}
    for outputs in (bad, bad, good, bad, bad):
        hook.after_train_iter(runner, 0, None, outputs)
    with pytest.raises(NonFiniteLossError, match='3 steps in a row'):
        hook.after_train_iter(runner, 0, None, bad)


def test_class_counts_that_agree_pass():
    data = SimpleNamespace(metainfo={'classes': ('a', 'b')})
    check_class_count(_model(bbox_head=2, rpn_head=1, mask_head=2), data)
    check_class_count(_model(bbox_head=7), SimpleNamespace(metainfo={}))
    check_class_count(_model(loss=7), data)


@pytest.mark.parametrize('count', [1, 3])
def test_a_head_with_another_number_of_classes_is_named(count):
    data = SimpleNamespace(metainfo={'classes': ('a', 'b')})
    model = nn.Module()
    model.add_module('roi_head', _model(bbox_head=2))
    model.roi_head.bbox_head = nn.ModuleList([_Head(2), _Head(count)])
    with pytest.raises(ConfigError, match=rf'bbox_head\.1 .*num_classes={count}.*2 classes'):
        check_class_count(model, data)


def test_a_single_class_without_its_comma_is_explained():
    with pytest.raises(ConfigError, match='with a comma'):
        check_class_count(_model(bbox_head=1), SimpleNamespace(metainfo={'classes': 'nucleus'}))


def test_bars_follow_the_run_and_log_lines_stay_readable(runner, capsys):
    console = logging.StreamHandler()
    console.setLevel(logging.INFO)
    runner.logger.handlers, runner.logger.propagate = [console], False
    runner.logger.setLevel(logging.DEBUG)
    hook = ProgressHook(shown=True)
    hook.before_train(runner)
    runner.message_hub.update_scalar('train/loss', 0.25)
    for runner.iter in range(6, 20):
        hook.after_train_iter(runner, runner.iter)
    runner.logger.info('a log line')
    runner.logger.debug('not shown')
    hook.before_val_epoch(runner)
    hook.after_val_iter(runner, 0)
    hook.after_val_epoch(runner)
    hook.after_train(runner)
    shown = capsys.readouterr().err
    assert '20/20' in shown and 'loss 0.25' in shown and 'val' in shown
    assert '\na log line\n' in shown.replace('\r', '\n')
    assert 'not shown' not in shown
    assert runner.logger.handlers == [console]


def test_no_bar_is_drawn_away_from_a_terminal(runner, capsys):
    hook = ProgressHook()
    hook.before_train(runner)
    hook.after_train_iter(runner, 0)
    hook.after_train(runner)
    assert capsys.readouterr().err == ''

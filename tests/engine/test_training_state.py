"""What a model needs in training alone travels in checkpoints, beside its weights."""

from types import SimpleNamespace

import pytest
import torch

from isda_suite.engine.hooks import TrainingStateHook


class Remembering(torch.nn.Linear):
    training_state_key = 'seen_state'

    def __init__(self):
        super().__init__(1, 1)
        self.seen = 0

    def training_state(self):
        return {'seen': self.seen}

    def load_training_state(self, state):
        self.seen = state['seen']


def runner_of(model, resume):
    said = []
    logger = SimpleNamespace(warning=said.append)
    return SimpleNamespace(model=model, _resume=resume, logger=logger, said=said)


@pytest.mark.parametrize('resume', [True, False])
def test_the_state_is_taken_up_by_a_run_that_is_resumed_alone(resume):
    first, second, checkpoint = Remembering(), Remembering(), {}
    first.seen = 7
    hook = TrainingStateHook()
    hook.before_save_checkpoint(runner_of(first, False), checkpoint)
    assert checkpoint == {'seen_state': {'seen': 7}}
    hook.after_load_checkpoint(runner_of(second, resume), checkpoint)
    assert second.seen == (7 if resume else 0)


def test_other_models_are_left_alone():
    checkpoint, runner = {}, runner_of(torch.nn.Linear(1, 1), True)
    TrainingStateHook().before_save_checkpoint(runner, checkpoint)
    TrainingStateHook().after_load_checkpoint(runner, checkpoint)
    assert checkpoint == {} and runner.said == []


def test_a_checkpoint_without_the_state_is_said():
    runner = runner_of(Remembering(), True)
    TrainingStateHook().after_load_checkpoint(runner, {})
    assert 'holds no seen_state' in runner.said[0]

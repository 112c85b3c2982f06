"""Known noise disappears, unknown output does not."""

import logging
import sys
import warnings

import pytest
import torch

from isda_suite.compat.warning_filters import (
    filter_known_log_lines,
    filter_known_warnings,
    quiet_imports,
)

NOISE = """Could not import OneDL. Skipping OneDL datasets.
Could not import OneDL
11/20 10:56:59 - mmengine - \x1b[4m\x1b[33mWARNING\x1b[0m - Line NMS is not compiled. Most likely \
when installing the package cuda was not available.
This model cannot work without CUDA, therefore you need to recompile the package with CUDA support.
To make sure that the package is compiled with CUDA support use FORCE_CUDA=1 mim install -e .
"""


class Records(logging.Handler):
    def __init__(self):
        super().__init__()
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


@pytest.fixture
def logger():
    logger = logging.Logger('mmengine')
    handler = Records()
    logger.addHandler(handler)
    logger.messages = handler.messages
    return logger


def test_known_lines_disappear_and_others_stay(capsys):
    with quiet_imports():
        print(NOISE, end='')
        print('a line nobody expected')
        print('Could not import OneDLX')
        print('Could not import OneDL', file=sys.stderr)
        print('an error', file=sys.stderr)
        print('no line break', end='')
    captured = capsys.readouterr()
    assert captured.out == 'a line nobody expected\nCould not import OneDLX\nno line break'
    assert captured.err == 'an error\n'


def test_output_passes_when_the_import_fails(capsys):
    with pytest.raises(ImportError), quiet_imports():
        print('last words', end='')
        raise ImportError
    assert capsys.readouterr().out == 'last words'


def test_only_listed_warnings_are_ignored_and_only_inside():
    listed = (
        ('`torch.jit.script` is deprecated. Please switch', DeprecationWarning),
        ('``MultiScaleDeformableAttention`` has been moved to ``x``', ImportWarning),
        ('torch.meshgrid: in an upcoming release, it will be required to pass the indexing',
         UserWarning),
        ("__array__ implementation doesn't accept a copy keyword, so", DeprecationWarning),
        ('faster_coco_eval is not installed, metrics will', UserWarning),
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        with warnings.catch_warnings():
            filter_known_warnings()
            for message, category in listed:
                warnings.warn(message, category, stacklevel=1)
            warnings.warn('`torch.jit.other` is deprecated', DeprecationWarning, stacklevel=1)
            warnings.warn('`torch.jit.script` is deprecated', UserWarning, stacklevel=1)
        warnings.warn(*listed[0], stacklevel=1)
    texts = [str(warning.message) for warning in seen]
    assert texts == ['`torch.jit.other` is deprecated', '`torch.jit.script` is deprecated',
                     listed[0][0]]  # fmt: skip


def test_lines_about_single_parameters_become_one_line_of_each_kind(logger):
    known = filter_known_log_lines(logger)
    for index in range(300):
        logger.warning(f'backbone.layer1.{index}.weight is skipped since its requires_grad=False')
    for index in range(40):
        for option in ('weight_decay=0.0001', 'lr=1e-05'):
            logger.info(f'paramwise_options -- backbone.layer2.{index}.weight:{option}')
    logger.info('paramwise_options -- bias:lr=0.1')
    assert logger.messages == []
    logger.info('next')
    logger.info('last')
    frozen, backbone, bias, *others = logger.messages
    assert known.frozen_parameters == 300
    assert frozen.endswith('optimizer: 300, the first is backbone.layer1.0.weight')
    what = (
        'parameters with lr=1e-05, weight_decay=0.0001: 40, the first is backbone.layer2.0.weight'
    )
    assert backbone == what
    assert bias == 'parameters with lr=0.1: 1, the first is bias'
    assert others == ['next', 'last']


def test_known_log_lines_disappear_and_others_stay(logger):
    filter_known_log_lines(logger)
    logger.warning('"FileClient" will be deprecated in future. Please use io functions')
    logger.warning('"HardDiskBackend" is the alias of "LocalBackend" and the former')
    logger.warning('`save_param_scheduler` is True but `self.param_schedulers` is None, so skip')
    logger.warning('loss is %s', 'NaN')
    assert logger.messages == ['loss is NaN']


def test_a_logger_gets_one_filter(logger):
    assert filter_known_log_lines(logger) is filter_known_log_lines(logger)
    assert len(logger.filters) == 1


def test_the_stack_is_imported_silently_and_an_optimizer_built_with_a_line_a_kind():
    """The lists above against the libraries as installed."""
    import subprocess
    import textwrap

    code = """
        import isda_suite, torch
        from isda_suite.compat.warning_filters import filter_known_log_lines, quiet_imports
        with quiet_imports():
            import mmdet.apis, mmseg.apis, mmdet.models, mmseg.models
            import mmdet.datasets, mmseg.datasets, mmdet.evaluation
            from mmengine.logging import MMLogger
            from mmengine.optim import build_optim_wrapper
        print('imported')
        logger = MMLogger.get_current_instance()
        logger.setLevel('INFO')
        known = filter_known_log_lines(logger)
        model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
        model[0].requires_grad_(False)
        optimizer = dict(type='SGD', lr=0.1, weight_decay=0.1)
        paramwise = dict(bias_lr_mult=2.0)
        cfg = dict(type='OptimWrapper', optimizer=optimizer, paramwise_cfg=paramwise)
        build_optim_wrapper(model, cfg)
        logger.info('next')
        print('frozen', known.frozen_parameters)
    """
    # torch 2.4 leaves a temporary folder to the interpreter's exit; hidden unless asked for.
    options = ['-W', 'default', '-W', 'ignore::ResourceWarning']
    command = [sys.executable, *options, '-c', textwrap.dedent(code)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    lines = result.stdout.strip().split('\n')
    assert lines[0] == 'imported', result.stdout + result.stderr
    assert lines[-1] == 'frozen 2', result.stderr
    assert sum('frozen parameters (requires_grad=False)' in line for line in lines) == 1
    assert sum('parameters with ' in line for line in lines) == 1
    assert 'is skipped since' not in result.stdout
    assert 'paramwise_options' not in result.stdout
    if not torch.__version__.startswith('2.4.'):  # it warns in a way that no filter can hide
        assert result.stderr == ''

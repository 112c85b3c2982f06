"""The arithmetic of memory estimates, on models small enough to count by hand."""

import pytest
import torch
from mmengine.config import Config
from torch import nn

from isda_suite.apis.model import build_model
from isda_suite.apis.performance import memory_check, memory_growth
from isda_suite.apis.performance.memory_check import available
from isda_suite.apis.performance.memory_estimate import (
    MemoryEstimate,
    bytes_of_optimizer,
    bytes_of_step,
    bytes_of_weights,
    describe,
)
from isda_suite.apis.performance.memory_inputs import bytes_of_loading, padded, sizes_in_pipeline
from isda_suite.apis.performance.memory_trial import (
    Workload,
    copy_to_cpu,
    counted_bytes,
    taken_bytes,
)
from isda_suite.apis.performance.tensor_memory import TensorMemory
from tests.apis.tiny_isda import write_isda_config
from tests.engine.toy import write_coco, write_config
from tests.tools.in_process import call_tool

MB = 1 << 20


def test_the_peak_counts_what_is_alive_together():
    with TensorMemory() as memory:
        first = torch.zeros(MB // 4)
        second = first + 1
        del first
        third = second * 2
    assert memory.peak == 2 * MB and memory.current == 2 * MB
    del second, third


def test_views_and_known_tensors_are_not_counted_again():
    weight = torch.zeros(MB // 4)
    with TensorMemory([weight]) as memory:
        view = weight.view(2, -1).t()[1:]
        own = torch.ones(MB // 4)
        views = [own[:5], own.reshape(4, -1), own.detach()]
    assert memory.peak == MB
    del view, views


def test_what_the_backward_needs_is_kept_until_then():
    layer = nn.Linear(256, 256, bias=False)
    images = torch.randn(1024, 256)
    known = [*layer.parameters(), images]
    with TensorMemory(known) as memory:
        total = layer(images).sigmoid().sum()
        held = memory.current
        total.backward()
    # The result of the sigmoid; then its gradient in two forms and that of the weights.
    assert held == pytest.approx(MB, rel=0.01)
    assert memory.peak > 2 * MB
    assert memory.current == pytest.approx(256 * 256 * 4, rel=0.05), 'gradients stay'


@pytest.mark.parametrize(
    ('optimizer', 'numbers'),
    [
        (dict(type='AdamW', lr=1e-3), 2),
        (dict(type='SGD', lr=1e-3), 0),
        (dict(type='SGD', lr=1e-3, momentum=0.9), 1),
        (dict(type='AdamW', lr=1e-3, amsgrad=True), 3),
    ],
)
def test_states_of_the_optimizer_are_those_of_trained_parameters(optimizer, numbers):
    model = nn.Sequential(nn.Linear(100, 100, bias=False), nn.Linear(100, 100, bias=False))
    model[1].requires_grad_(False)
    assert bytes_of_weights(model) == 2 * 40_000
    found = bytes_of_optimizer(model, optimizer)
    assert found == pytest.approx(numbers * 40_000, rel=0.01, abs=100)


def test_shared_weights_count_once():
    layer = nn.Linear(10, 10, bias=False)
    assert bytes_of_weights(nn.ModuleList([layer, layer])) == 400


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    torch.manual_seed(0)
    return build_model(write_isda_config(tmp_path_factory.mktemp('tiny'), 3))


@pytest.mark.parametrize('training', [True, False])
def test_a_large_pass_is_told_from_small_ones(model, monkeypatch, training):
    load = Workload(3, (320, 320), training, num_instances=4)
    trial = copy_to_cpu(model, training)
    whole = counted_bytes(trial, load)
    monkeypatch.setattr(memory_growth, 'DIRECT_PIXELS', 192 * 192)
    told, growth = bytes_of_step(model, load)
    assert growth.bytes_of(3, (320, 320)) == told
    counted = memory_growth.extrapolate(growth.sizes, growth.peaks, (3, 320 * 320))
    assert counted == pytest.approx(whole, rel=0.15)
    assert told >= counted


def test_a_small_pass_is_measured_as_it_is(model):
    load = Workload(2, (64, 64), True)
    step, growth = bytes_of_step(model, load)
    trial = copy_to_cpu(model, True)
    assert growth is None and step >= counted_bytes(trial, load)
    on_gpu, _ = bytes_of_step(model, load, on_gpu=True)
    assert on_gpu == int(memory_growth.GPU_FACTOR * counted_bytes(trial, load))


def test_what_a_pass_takes_of_the_process_is_measured(model):
    trial = copy_to_cpu(model, True)
    small, large = (Workload(2, (side, side), True) for side in (64, 256))
    taken_bytes(trial, small)
    counted, taken = counted_bytes(trial, large), taken_bytes(trial, large)
    if taken is None:
        pytest.skip('the peak of a process cannot be reset on this system')
    # Pieces that the C library keeps come on top of the tensors, and some MB whatever they are.
    assert 0.95 * counted < taken < 2 * counted + 10 * MB
    assert all(parameter.grad is None for parameter in trial.parameters())


def test_an_estimate_leaves_the_model_and_randomness_alone(model):
    torch.manual_seed(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state, mode = torch.get_rng_state(), model.training
    bytes_of_step(model, Workload(2, (64, 64), True))
    assert torch.equal(torch.get_rng_state(), state) and model.training is mode
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_more_images_pixels_and_gradients_take_more(model):
    def counted(*load):
        return counted_bytes(copy_to_cpu(model, load[2]), Workload(*load))

    small = counted(1, (128, 128), True)
    assert counted(2, (128, 128), True) > 1.5 * small
    assert counted(1, (256, 128), True) > 1.5 * small
    assert counted(1, (128, 128), False) < small / 2


@pytest.mark.parametrize(
    ('steps', 'size'),
    [
        ([dict(type='LoadImage')], None),
        ([dict(type='Resize', scale=(1333, 800), keep_ratio=True)], (800, 1333)),
        ([dict(type='RandomChoiceResize', scales=[(480, 640), (1333, 800)])], (800, 1333)),
        (
            [
                dict(type='RandomResize', scale=(2048, 1024), ratio_range=(0.5, 2.0)),
                dict(type='RandomCrop', crop_size=(512, 768)),
            ],
            (512, 768),
        ),
        ([dict(type='RandomCrop', crop_size=320)], (320, 320)),
        (
            [
                dict(
                    type='RandomChoice',
                    transforms=[
                        [dict(type='mmdet.Resize', scale=(400, 300))],
                        [dict(type='mmdet.Resize', scale=(800, 600))],
                    ],
                )
            ],
            (600, 800),
        ),
    ],
)
def test_sizes_are_found_in_pipelines(steps, size):
    assert sizes_in_pipeline(steps) == size


def test_images_are_as_large_as_the_network_sees_them():
    model = nn.Module()
    model.data_preprocessor = nn.Module()
    assert padded(model, (100, 200), True) == (100, 200)
    model.data_preprocessor.pad_size_divisor = 32
    assert padded(model, (100, 200), True) == (128, 224)
    model.data_preprocessor.size = (512, 512)
    assert padded(model, (100, 200), True) == (512, 512)
    assert padded(model, (100, 200), False) == (128, 224)


def test_workers_keep_what_the_process_changes():
    assert bytes_of_loading(0, 10**9, 10**9) == 0
    two, without = bytes_of_loading(2, 5 * MB), bytes_of_loading(2, 0)
    assert two == without + 10 * MB > 10 * MB
    assert bytes_of_loading(2, 5 * MB, 7 * MB) == two + 7 * MB


def test_the_line_names_every_part_and_the_sum():
    found = MemoryEstimate(10**9, 2 * 10**8, 0, 3 * 10**8, 5 * 10**8)
    assert found.total == 2 * 10**9
    text = describe(found, Workload(4, (800, 1333), True), 3 * 10**9)
    assert text.startswith('training with 4 x 800 x 1333 pixels needs about 2.00 GB, 3.00 GB free')
    assert 'weights 0.20' in text and 'data loading 0.50' in text and 'optimizer' not in text
    assert 'of a GPU, unknown' in describe(found, Workload(4, (8, 8), False), None, on_gpu=True)


def test_a_file_of_weights_is_gone_before_the_first_pass():
    before_and_during = [MemoryEstimate(100, 20, 0, 30, 0, size) for size in (10, 80)]
    assert [found.total for found in before_and_during] == [150, 200]


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_config(tmp_path, write_coco(tmp_path / 'data'))


def test_a_training_says_what_it_needs_and_goes_on_where_it_does_not_fit(
    toy, tmp_path, monkeypatch
):
    from isda_suite.apis.train import train

    monkeypatch.setattr(memory_check, 'available', lambda device: 1000)
    train(toy, work_dir=tmp_path / 'w')
    text = next((tmp_path / 'w').rglob('*.log')).read_text()
    (line,) = [line for line in text.splitlines() if 'needs about' in line]
    assert 'WARNING' in line and 'it will probably not fit; no smaller input would' in line
    monkeypatch.setenv('ISDA_MEMORY_ESTIMATE', '0')
    train(toy, work_dir=tmp_path / 'v')
    assert 'needs about' not in next((tmp_path / 'v').rglob('*.log')).read_text()


def test_an_estimate_that_fails_costs_nothing_but_a_line(toy, tmp_path, monkeypatch):
    from isda_suite.apis.train import train

    def refuse(*_, **__):
        raise RuntimeError('no such kernel')

    monkeypatch.setattr(memory_check, 'estimate', refuse)
    train(toy, work_dir=tmp_path / 'w')
    text = next((tmp_path / 'w').rglob('*.log')).read_text()
    assert 'the memory of this run is not estimated: RuntimeError: no such kernel' in text


def test_the_tool_estimates_with_and_without_data(toy, tmp_path, monkeypatch, capsys):
    import json

    assert call_tool(monkeypatch, 'tools/fit.py', toy, '--json', '--workers', 0) == 0
    text = capsys.readouterr().out
    found = json.loads(text[text.index('{\n') :])
    parts = ('process', 'weights', 'optimizer', 'step', 'loaders')  # no checkpoint in a training
    assert found['total'] == sum(found[name] for name in parts) > 10**8
    assert found['fits'] and found['loaders'] == 0
    (tmp_path / 'data').rename(tmp_path / 'gone')
    words = ('--image-size', 64, 96, '--batch-size', 3, '--test')
    assert call_tool(monkeypatch, 'tools/fit.py', toy, *words) == 0
    assert 'inference with 3 x 64 x 96 pixels' in capsys.readouterr().out
    assert call_tool(monkeypatch, 'tools/fit.py', toy, '--test') == 2
    assert 'give --image-size' in capsys.readouterr().err


def test_workers_of_training_and_validation_count(toy, monkeypatch):
    config = Config.fromfile(toy)
    alone = memory_check.check_fit(config, workers=0).found
    found = memory_check.check_fit(config, workers=2).found
    each = [bytes_of_loading(2, 0, found.weights), bytes_of_loading(2, 0, found.weights)]
    each[1] += found.optimizer
    assert alone.loaders == 0 and found.loaders >= sum(each)
    assert found.total == sum(found.parts.values())
    test = memory_check.check_fit(config, training=False, workers=2).found
    assert bytes_of_loading(2, 0) <= test.loaders < bytes_of_loading(2, 10 * MB)


def test_memory_that_is_there_includes_what_the_process_holds(monkeypatch):
    monkeypatch.setattr(memory_check, 'free_memory', lambda: 100)
    monkeypatch.setattr(memory_check, 'used_memory', lambda: 20)
    assert available(torch.device('cpu')) == 120
    monkeypatch.setattr(memory_check, 'free_memory', lambda: None)
    assert available(torch.device('cpu')) is None

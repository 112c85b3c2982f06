"""The loaders of mmengine after ``install_safe_loading``."""

import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from mmengine.config import Config
from mmengine.infer import BaseInferencer
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint
from torch import nn

from isda_suite.checkpoint.errors import CheckpointError, UnsafeCheckpointError
from isda_suite.checkpoint.load import load_into
from isda_suite.checkpoint.safe_load import install_safe_loading
from tests.checkpoint.probes import program, write_probes


@pytest.fixture(autouse=True)
def safe_loading(monkeypatch):
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    install_safe_loading()


def test_mmengine_refuses_code_and_does_not_try_again(tmp_path):
    trace = tmp_path / 'ran'
    for file in write_probes(tmp_path, trace):
        with pytest.raises(UnsafeCheckpointError):
            load_checkpoint(nn.Linear(2, 1), str(file))
        assert not trace.exists()


def test_pretrained_weights_of_a_model_refuse_code(tmp_path):
    from mmengine.model import BaseModule

    class Layer(BaseModule):
        def __init__(self, init_cfg):
            super().__init__(init_cfg)
            self.weight = nn.Parameter(torch.ones(1, 2))

    trace = tmp_path / 'ran'
    file = write_probes(tmp_path, trace)[0]
    for prefix in (None, 'backbone'):
        layer = Layer(dict(type='Pretrained', checkpoint=str(file), prefix=prefix))
        with pytest.raises(UnsafeCheckpointError):
            layer.init_weights()
    assert not trace.exists()


def test_trust_is_only_for_those_who_say_it(tmp_path):
    trace = tmp_path / 'ran'
    file = write_probes(tmp_path, trace)[0]
    install_safe_loading(trust=True)
    load_checkpoint(nn.Linear(2, 1), str(file))
    assert trace.exists()
    trace.rmdir()
    install_safe_loading()
    with pytest.raises(UnsafeCheckpointError):
        load_checkpoint(nn.Linear(2, 1), str(file))
    assert not trace.exists()


class _Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, x, mode):
        return {'loss': self.layer(x).sum()}


def _runner(work_dir, **options):
    loader = dict(batch_size=1, sampler=dict(type='DefaultSampler'), dataset=[torch.ones(2)])
    return Runner(
        model=_Toy(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=options.pop('epochs', 1)),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=[dict(type='MultiStepLR', milestones=[1, 3]), dict(type='LinearLR', end=2)],
        custom_hooks=[dict(type='EMAHook')],
        experiment_name=f'toy_{work_dir.name}_{options}',
        **options,
    )


def test_resume_does_not_execute_the_config_of_a_checkpoint(tmp_path):
    """The file passes the restricted reader; its text would run in Runner.resume."""
    trace = tmp_path / 'ran'
    _runner(tmp_path / 'first').train()
    saved = tmp_path / 'first' / 'epoch_1.pth'
    checkpoint = torch.load(saved, weights_only=False)
    checkpoint['meta']['config'] = program(trace)
    checkpoint['message_hub']['runtime_info']['cfg'] = program(trace)
    torch.save(checkpoint, tmp_path / 'probe.pth')

    runner = _runner(
        tmp_path / 'second', epochs=2, resume=True, load_from=str(tmp_path / 'probe.pth')
    )
    runner.train()
    assert runner.epoch == 2
    assert not trace.exists()


def test_an_inferencer_does_not_execute_the_config_of_a_checkpoint(tmp_path):
    trace = tmp_path / 'ran'
    content = {
        'meta': {'cfg': program(trace)},
        'message_hub': {'runtime_info': {'cfg': program(trace)}},
        'state_dict': {},
    }
    torch.save(content, tmp_path / 'a.pth')
    load = BaseInferencer._init_model
    with pytest.raises(ValueError, match='Cannot find the config'):
        load(None, Config(), str(tmp_path / 'a.pth'))
    assert not trace.exists()


@pytest.fixture
def server(tmp_path, monkeypatch):
    folder = tmp_path / 'served'
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            pass

    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    httpd = ThreadingHTTPServer(('127.0.0.1', 0), Quiet)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield folder, f'http://127.0.0.1:{httpd.server_port}'
    httpd.shutdown()
    httpd.server_close()


def test_files_from_the_network_are_fetched_once_and_read_safely(tmp_path, server):
    folder, address = server
    torch.save({'weight': torch.full((1, 2), 5.0), 'bias': torch.zeros(1)}, folder / 'good.pth')
    for _ in range(2):
        layer = nn.Linear(2, 1)
        load_checkpoint(layer, f'{address}/good.pth')
        assert layer.weight.tolist() == [[5.0, 5.0]]
        (folder / 'good.pth').unlink(missing_ok=True)

    assert load_into(nn.Linear(2, 1), f'{address}/good.pth').complete

    trace = tmp_path / 'ran'
    for probe in write_probes(folder, trace)[:2]:
        with pytest.raises(UnsafeCheckpointError):
            load_checkpoint(nn.Linear(2, 1), f'{address}/{probe.name}')
    assert not trace.exists()


def test_a_download_that_fails_or_has_another_hash_is_an_error(server):
    folder, address = server
    torch.save({'weight': torch.ones(1)}, folder / 'model-0123abcd.pth')
    for name in ('absent.pth', 'model-0123abcd.pth'):
        for _ in range(2):  # nothing half-fetched may be taken the second time
            with pytest.raises(CheckpointError, match=name):
                load_checkpoint(nn.Linear(2, 1), f'{address}/{name}')


def test_an_unknown_model_of_a_zoo_is_named():
    with pytest.raises(CheckpointError, match='resnet999'):
        load_checkpoint(nn.Linear(2, 1), 'torchvision://resnet999')

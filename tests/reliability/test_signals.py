"""What schedulers send reaches whole groups of processes; the run still saves itself."""

import os
import signal
import subprocess
import sys
import time

import pytest

from isda_suite.engine.exit_codes import PREEMPTED
from tests.engine.toy import write_coco, write_config
from tests.tools.running import ROOT, environment

MANY_EPOCHS = """
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1000, val_interval=1000)
train_dataloader.update(
    num_workers=2, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=True))
"""


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_whole_process_group_spares_the_loading_processes(number, tmp_path):
    losses = tmp_path / 'losses.txt'
    hook = f"custom_hooks = [dict(type='LossFile', path='{losses}', pause_s=0.3)]"
    config = write_config(tmp_path, write_coco(tmp_path / 'data'), MANY_EPOCHS + hook)
    with subprocess.Popen(
        [sys.executable, ROOT / 'tools/train.py', config, '--work-dir', 'w'],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        while not losses.exists() and process.poll() is None:
            time.sleep(0.05)
        if process.poll() is None:
            os.killpg(process.pid, number)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == PREEMPTED, output[-3000:]
    assert (tmp_path / 'w/preempted.pth').is_file()

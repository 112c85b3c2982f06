"""A raster far larger than the memory allowed is segmented within it, in bounded time."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('rasterio', reason='rasters need rasterio (pip install isda_suite[raster])')
import rasterio
from rasterio.windows import Window

from isda_suite.apis.model import load_model
from isda_suite.resources import resource_root
from tests.apis.raster_files import PLACE
from tests.engine.toy_segmentor import write_config
from tests.tools.running import ROOT, environment

ALLOWED_MB = 4000
ISDNET = resource_root() / 'configs/isdnet/isdnet_1224x1224_80k_deepglobe.py'


def write_noise(path, side):
    """Write random tiles, a row at a time."""
    rng = np.random.default_rng(0)
    layout = dict(tiled=True, blockxsize=512, blockysize=512, **PLACE)
    with rasterio.open(
        path, 'w', driver='GTiff', width=side, height=side, count=3, dtype='uint8', **layout
    ) as dataset:
        for top in range(0, side, 512):
            rows = min(512, side - top)
            tile = rng.integers(0, 256, (3, rows, 512), np.uint8)
            pixels = np.tile(tile, (1, 1, -(-side // 512)))[:, :, :side]
            dataset.write(pixels, window=Window(0, top, side, rows))


def run_and_watch(command, timeout_s):
    """Run a command; return its output and the most it held in memory, in MB."""
    process = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, env=environment(), text=True
    )
    status = Path(f'/proc/{process.pid}/status')
    peak_kb, start = 0, time.monotonic()
    while process.poll() is None:
        held = [line for line in status.read_text().splitlines() if line.startswith('VmRSS')]
        peak_kb = max(peak_kb, *(int(line.split()[1]) for line in held), 0)
        time.sleep(0.05)
        if time.monotonic() - start > timeout_s:
            process.kill()
    assert process.returncode == 0
    return process.stdout.read(), peak_kb / 1024


def write_network(kind, where):
    """Write a configuration and random weights of it."""
    torch.manual_seed(0)
    config = write_config(where, where) if kind == 'toy' else ISDNET
    model = load_model(config, device='cpu')
    torch.save({'state_dict': model.state_dict()}, where / 'weights.pth')
    return config


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='memory is read from /proc')
@pytest.mark.parametrize(
    ('kind', 'extra'),
    [('toy', []), ('isdnet', []), ('isdnet', ['--exact'])],
    ids=['toy', 'ISDNet', 'ISDNet exact'],
)
def test_a_raster_of_20000_x_20000_pixels_is_segmented_within_4_gb(
    tmp_path, monkeypatch, kind, extra
):
    side = 20_000
    write_noise(tmp_path / 'large.tif', side)
    config = write_network(kind, tmp_path)
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    words = [config, tmp_path / 'weights.pth', tmp_path / 'large.tif', '--device', 'cpu', *extra]
    words += ['--memory-mb', ALLOWED_MB, '--out-dir', tmp_path / 'out', '--overlay']
    start = time.monotonic()
    said, peak_mb = run_and_watch([sys.executable, ROOT / 'tools/segment.py', *words], 3300)
    print(f'{time.monotonic() - start:.0f} s, {peak_mb:.0f} MB')
    assert ('windows of' if extra else 'tiles of') in said
    assert peak_mb < ALLOWED_MB
    with rasterio.open(tmp_path / 'out' / 'large.tif') as found:
        assert found.shape == (side, side) and found.crs.to_epsg() == 32633
        assert found.read(1, window=Window(0, side - 8, side, 8)).max() < 7
    assert (tmp_path / 'out' / 'large_overlay.jpg').is_file()

"""The page of the Python API does what it says."""

import pytest
import torch

pytest.importorskip('rasterio', reason='the page has a GeoTIFF (pip install isda_suite[raster])')
pytest.importorskip('supervision', reason='pip install isda_suite[supervision]')

from isda_suite import Segmenter
from tests.apis.raster_files import noise, write_raster
from tests.apis.tiny_models import write_image
from tests.apis.video_files import moving_square, write_video

from .documents import ROOT, split_document

WEIGHTS = {
    'isda_sample': 'work_dirs/sample/iter_900.pth',
    'isdnet_r18_sample': 'isdnet.pth',
    'defvistr_sample': 'defvistr.pth',
}


def test_the_examples_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, file in WEIGHTS.items():
        model = Segmenter(name, 'random', device='cpu').model
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        torch.save({'state_dict': model.state_dict()}, file)
    for index in range(3):
        write_image(tmp_path / 'data/sample/val' / f'{index:06d}.jpg', 64, 64, seed=index)
    write_raster(tmp_path / 'scenes' / 'a.tif', noise())
    write_video(tmp_path / 'street.mp4', moving_square(6))
    blocks = [block for block in split_document(ROOT / 'docs/api.md')[0] if block.info == 'python']
    assert len(blocks) >= 5
    names = {}
    for block in blocks:
        exec(compile(block.text, block.place, 'exec'), names)
    assert len(names['results']) == 3
    written = {path.name for path in tmp_path.rglob('*') if path.is_file()}
    assert {'000000_overlay.jpg', '000000.json', 'a.tif', 'found.geojson'} <= written

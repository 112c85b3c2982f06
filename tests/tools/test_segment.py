import re
import sys

import cv2
import numpy as np
import pytest
import torch

from isda_suite.apis.inference import predict
from isda_suite.apis.model import load_model
from tests.apis.tiny_models import write_image
from tests.engine.toy_segmentor import write_config
from tests.tools.in_process import call_tool
from tests.tools.running import run_python

TOOL = 'tools/segment.py'


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    where = tmp_path_factory.mktemp('segment')
    torch.manual_seed(0)
    model = load_model(write_config(where, where), device='cpu')
    torch.save({'state_dict': model.state_dict()}, where / 'toy.pth')
    for index in range(2):
        write_image(where / 'images' / f'{index}.png', 90, 120, seed=index)
    return where


@pytest.fixture
def call(files, tmp_path, monkeypatch, capsys):
    """Run the tool on images; return exit code and what was said."""

    def run(*words):
        head = [files / 'toy_segmentor.py', files / 'toy.pth', *words]
        code = call_tool(monkeypatch, TOOL, *head, '--out-dir', tmp_path / 'out', '--device', 'cpu')
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def expected(files, image):
    model = load_model(files / 'toy_segmentor.py', files / 'toy.pth', device='cpu')
    return predict(model, image, progress=False)[0].pred_sem_seg.data[0].numpy()


def test_a_folder_becomes_class_maps_and_overlays(files, tmp_path):
    words = [files / 'toy_segmentor.py', files / 'toy.pth', files / 'images', '--overlay']
    done = run_python(TOOL, *words, '--out-dir', tmp_path / 'out', '--device', 'cpu')
    assert done.returncode == 0, done.stderr
    assert '1/1' in done.stderr  # the progress bar
    assert re.search(
        r'0\.png \(120 x 90\): one pass, .* MB more than before \(estimated', done.stdout
    )
    names = sorted(file.name for file in (tmp_path / 'out').iterdir())
    assert names == ['0.png', '0_overlay.jpg', '1.png', '1_overlay.jpg']
    found = cv2.imread(str(tmp_path / 'out' / '0.png'), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(found, expected(files, files / 'images' / '0.png'))
    overlay = cv2.imread(str(tmp_path / 'out' / '0_overlay.jpg'))
    assert overlay.shape[0] >= 90 and overlay.shape[1] >= 120


def test_tiles_are_told_of(files, call, tmp_path):
    code, said = call(files / 'images' / '0.png', '--tile', 64, '--overlap', 32)
    assert code == 0 and '2 tiles of 64 pixels, overlap 32' in said and '2/2' in said
    found = cv2.imread(str(tmp_path / 'out' / '0.png'), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(found, expected(files, files / 'images' / '0.png'))


def test_help_and_wrong_arguments_need_no_libraries():
    assert run_python(TOOL, '--help', timeout_s=5).returncode == 0
    for wrong in (['a.py', 'b.pth'], ['a.py', 'b.pth', 'c.png', '--stretch', '98', '2']):
        done = run_python(TOOL, *wrong, timeout_s=5)
        assert done.returncode == 2 and 'error' in done.stderr


def test_wrong_values_end_with_code_2_and_wrong_files_with_3(files, call, tmp_path):
    image = files / 'images' / '0.png'
    cut = write_image(tmp_path / 'cut.png')
    cut.write_bytes(cut.read_bytes()[:60])
    cases = [
        (2, 'scale must lie above 0', [image, '--scale', 0]),
        (2, 'cannot overlap by', [image, '--tile', 64, '--overlap', 64]),
        (2, 'allow more with memory_mb', [image, '--memory-mb', 1]),
        (3, 'no image', [tmp_path / 'absent.png']),
        (3, 'cut.png: its 60 bytes cannot be decoded', [cut]),
        (3, 'bands and stretch are for rasters', [image, '--bands', 1, 2, 3]),
    ]
    for expected_code, words, arguments in cases:
        code, said = call(*arguments)
        assert (code, words in said) == (expected_code, True), said
        assert 'Traceback' not in said
    assert not list((tmp_path / 'out').glob('*'))


def test_the_images_are_never_replaced(files, monkeypatch, capsys):
    words = [files / 'toy_segmentor.py', files / 'toy.pth', files / 'images']
    assert call_tool(monkeypatch, TOOL, *words, '--out-dir', files / 'images') == 2
    assert 'may replace the pictures' in capsys.readouterr().err


def test_images_of_the_same_name_get_maps_of_their_own(call, tmp_path):
    for folder in ('a', 'b'):
        write_image(tmp_path / folder / 'same.png')
    assert call(tmp_path / '*' / '*.png')[0] == 0
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == ['1_same.png', 'same.png']


def test_without_rasterio_a_tiff_is_read_as_a_picture_and_the_remedy_is_named(
    call, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, 'rasterio', None)
    code, said = call(write_image(tmp_path / 'a.tif'))
    assert code == 0 and 'without its georeference' in said
    assert 'pip install isda_suite[raster]' in said and (tmp_path / 'out' / 'a.png').is_file()
    (tmp_path / 'a.tif').write_bytes(b'II*\0')
    (tmp_path / 'a.jp2').write_bytes(b'\0\0\0\x0c')
    for name in ('a.tif', 'a.jp2'):
        code, said = call(tmp_path / name)
        assert code == 3 and 'pip install isda_suite[raster]' in said

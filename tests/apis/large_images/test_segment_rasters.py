"""Rasters from file to file: place, gaps, tiles, and what is wrong with them."""

import numpy as np
import pytest
import torch

pytest.importorskip('rasterio', reason='rasters need rasterio (pip install isda_suite[raster])')
import rasterio

from isda_suite.apis.model import load_model
from isda_suite.apis.segment import BandChoice, SegmentSettings, TiledSegmenter, segment_files
from isda_suite.datasets.errors import DataError
from tests.apis.raster_files import PLACE, noise, write_raster
from tests.engine.toy_segmentor import write_config


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp('toy')
    torch.manual_seed(0)
    return load_model(write_config(folder, folder), device='cpu')


def segment(model, path, out_dir, **settings):
    [done] = segment_files(model, path, out_dir, SegmentSettings(**settings), progress=False)
    with rasterio.open(done.out) as found:
        return done, found.read(1), {**found.profile, 'colours': found.colormap(1)}


def test_a_raster_becomes_classes_at_the_same_place(model, tmp_path):
    pixels = noise(3, 200, 310)
    path = write_raster(tmp_path / 'in' / 'a.tif', pixels)
    done, classes, found = segment(model, path, tmp_path / 'out', tile=96, overlap=32)
    assert (done.num_tiles, done.notes) == (12, [])
    assert (found['crs'].to_epsg(), found['transform']) == (32633, PLACE['transform'])
    whole = TiledSegmenter(model).segment(np.ascontiguousarray(pixels[::-1].transpose(1, 2, 0)))
    assert np.array_equal(classes, whole)
    assert found['colours'][1][:3] == (0, 255, 255), 'the palette of DeepGlobe'


def test_pixels_without_data_have_no_class(model, tmp_path):
    pixels = noise(3, 100, 140, high=200) + 1
    pixels[:, 20:40, 50:90] = 0
    path = write_raster(tmp_path / 'in' / 'a.tif', pixels.astype('uint8'), nodata=0)
    _, classes, found = segment(model, path, tmp_path / 'out')
    assert np.array_equal(classes == 255, ~pixels.any(0)) and found['nodata'] == 255


def test_a_raster_of_16_bits_and_many_bands_is_segmented_as_told(model, tmp_path):
    path = write_raster(tmp_path / 'in' / 'a.tif', noise(6, 100, 140, 'uint16', 9000))
    with pytest.raises(DataError, match='--bands'):
        segment(model, path, tmp_path / 'out')
    choice = BandChoice(bands=(4, 3, 2), stretch=(2, 98))
    _, classes, _ = segment(model, path, tmp_path / 'out', bands=choice)
    assert len(np.unique(classes)) > 1


def test_a_raster_that_lies_nowhere_is_segmented_with_a_note(model, tmp_path):
    path = tmp_path / 'in' / 'a.tif'
    write_raster(path, noise(3, 60, 60), crs=None, transform=None)
    done, _, found = segment(model, path, tmp_path / 'out')
    assert done.notes == ['it has no georeference, neither has its class map']
    assert found['crs'] is None


def test_a_raster_cut_off_in_the_middle_leaves_no_result(model, tmp_path):
    path = write_raster(tmp_path / 'in' / 'a.tif', noise(3, 400, 300))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r'a\.tif: it cannot be read, damaged or cut off'):
        segment(model, path, tmp_path / 'out', tile=96, overlap=32)
    assert not list(tmp_path.glob('out/*'))


def test_an_overlay_of_a_raster_is_drawn_from_every_nth_pixel(model, tmp_path, monkeypatch):
    import cv2

    monkeypatch.setattr('isda_suite.apis.large_images.class_overlays.LONGEST_SIDE', 500)
    path = write_raster(tmp_path / 'in' / 'a.tif', noise(3, 700, 1100))
    done = next(segment_files(model, path, tmp_path / 'out', overlay=True, progress=False))
    drawn = cv2.imread(str(done.overlay))
    assert drawn.shape[1] % 367 == 0, 'every third of 1100 columns'

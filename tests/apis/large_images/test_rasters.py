import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip('rasterio', reason='rasters need rasterio (pip install isda_suite[raster])')
import rasterio
from rasterio.enums import ColorInterp

from isda_suite.apis.large_images.class_rasters import write_class_raster
from isda_suite.apis.large_images.rasters import BandChoice, RasterPicture
from isda_suite.datasets.errors import DataError
from tests.apis.raster_files import PLACE, noise, write_raster
from tests.tools.running import environment

PALETTE = [(0, 0, 0), (255, 0, 0), (0, 255, 0)]


def read_all(path, choice=None):
    picture = RasterPicture(path, choice)
    try:
        return picture.read(0, 0, *picture.size_hw)
    finally:
        picture.close()


def test_windows_are_parts_of_the_raster_with_blue_first(tmp_path):
    pixels = noise()
    picture = RasterPicture(write_raster(tmp_path / 'a.tif', pixels))
    assert picture.size_hw == (90, 120) and picture.is_placed and not picture.has_gaps
    window = picture.read(10, 20, 30, 40)
    assert np.array_equal(window, pixels[::-1, 10:40, 20:60].transpose(1, 2, 0))
    picture.close()


@pytest.mark.parametrize(
    ('bands', 'kinds', 'choice', 'expected'),
    [
        (1, None, None, [1, 1, 1]),
        (3, None, None, [1, 2, 3]),
        (4, [*map(ColorInterp, (3, 4, 5, 6))], None, [1, 2, 3]),
        (8, None, (5, 3, 2), [5, 3, 2]),
    ],
)
def test_three_bands_are_taken_as_red_green_and_blue(tmp_path, bands, kinds, choice, expected):
    pixels = noise(bands)
    path = write_raster(tmp_path / 'a.tif', pixels, photometric='minisblack', colorinterp=kinds)
    found = read_all(path, BandChoice(bands=choice))
    chosen = [band - 1 for band in expected[::-1]]
    assert np.array_equal(found, pixels[chosen].transpose(1, 2, 0))


def test_bands_that_nobody_chose_are_refused_with_the_way_to_choose(tmp_path):
    path = write_raster(tmp_path / 'a.tif', noise(4), photometric='minisblack')
    with pytest.raises(DataError, match=r'a\.tif: it has 4 bands \(gray, undefined.*--bands 3 2 1'):
        RasterPicture(path)
    with pytest.raises(DataError, match='there is no band 5, it has 1 to 4'):
        RasterPicture(path, BandChoice(bands=(1, 2, 5)))


def test_values_of_16_bits_need_percentiles_that_become_black_and_white(tmp_path):
    pixels = noise(3, dtype='uint16', high=4000)
    pixels[:, 0, :] = 60_000
    path = write_raster(tmp_path / 'a.tif', pixels, nodata=60_000)
    with pytest.raises(DataError, match=r'a\.tif: its values are uint16.*--stretch 2 98'):
        RasterPicture(path)
    found = read_all(path, BandChoice(stretch=(2, 98)))[1:]
    known = pixels[::-1, 1:].transpose(1, 2, 0)
    low, high = np.percentile(known[..., 0], (2, 98))
    assert np.all(found[..., 0][known[..., 0] <= low] == 0)
    assert np.all(found[..., 0][known[..., 0] >= high] == 255)
    middle = np.abs(known[..., 0] - (low + high) / 2) < 20
    assert middle.any() and np.all(np.abs(found[..., 0][middle].astype(int) - 128) < 4)


def test_floats_that_are_no_numbers_become_black(tmp_path):
    pixels = noise(1).astype('float32')
    pixels[0, :5] = np.nan
    path = write_raster(tmp_path / 'a.tif', pixels)
    assert not read_all(path, BandChoice(stretch=(1, 99)))[:5].any()


def test_a_band_of_one_value_cannot_be_stretched(tmp_path):
    path = write_raster(tmp_path / 'a.tif', np.full((1, 8, 8), 7, 'uint16'))
    with pytest.raises(DataError, match='band 1 has one value only'):
        RasterPicture(path, BandChoice(stretch=(2, 98)))


def test_a_colour_table_is_no_brightness(tmp_path):
    path = tmp_path / 'a.tif'
    shape = dict(count=1, height=8, width=8, dtype='uint8', driver='GTiff', photometric='palette')
    with rasterio.open(path, 'w', **shape, **PLACE) as dataset:
        dataset.write_colormap(1, {0: (1, 2, 3, 255)})
    with pytest.raises(DataError, match=r'numbers of a colour table.*-expand rgb'):
        RasterPicture(path)


@pytest.mark.parametrize('content', [b'', b'<!doctype html>', b'\x89PNG\r\n', b'II*\0 and no more'])
def test_what_is_no_raster_is_named(tmp_path, content):
    path = tmp_path / 'a.tif'
    path.write_bytes(content)
    with pytest.raises(DataError, match=r'a\.tif: (it begins with|it cannot be read)'):
        RasterPicture(path)


def test_a_virtual_raster_is_not_followed_to_the_files_it_names(tmp_path):
    write_raster(tmp_path / 'secret.tif', noise())
    band = (
        '<VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename '
        'relativeToVRT="1">secret.tif</SourceFilename></SimpleSource></VRTRasterBand>'
    )
    virtual = f'<VRTDataset rasterXSize="120" rasterYSize="90">{band}</VRTDataset>'
    (tmp_path / 'a.tif').write_text(virtual)
    with pytest.raises(DataError, match='neither a TIFF nor JPEG 2000'):
        RasterPicture(tmp_path / 'a.tif')
    with rasterio.open(tmp_path / 'a.tif') as probe:
        assert probe.count == 1, 'the probe is alive'


@pytest.mark.parametrize('tiled', [False, True])
def test_a_raster_that_is_cut_off_is_named_when_its_end_is_read(tmp_path, tiled):
    blocks = dict(blockxsize=64, blockysize=64, tiled=True) if tiled else {}
    path = write_raster(tmp_path / 'a.tif', noise(3, 300, 300), **blocks)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r'a\.tif: it cannot be read, damaged or cut off'):
        read_all(path)


def test_a_class_raster_keeps_place_colours_and_classes(tmp_path):
    classes = np.random.default_rng(0).integers(0, 3, (1100, 700), np.uint8)
    classes[:3] = 255
    path = tmp_path / 'new' / 'a.tif'
    blocks = np.array_split(classes, 23)
    write_class_raster(path, blocks, classes.shape, PALETTE, dict(PLACE))
    with rasterio.open(path) as found:
        assert np.array_equal(found.read(1), classes)
        assert found.crs.to_epsg() == 32633 and found.transform == PLACE['transform']
        assert found.nodata == 255 and found.dtypes == ('uint8',)
        assert found.block_shapes == [(512, 512)] and found.compression.value == 'DEFLATE'
        assert found.colormap(1)[1] == (255, 0, 0, 255)
    assert [file.name for file in path.parent.iterdir()] == ['a.tif']


def test_an_older_class_raster_stays_when_the_new_one_fails(tmp_path):
    path = tmp_path / 'a.tif'
    path.write_bytes(b'old')

    def blocks():
        yield np.zeros((5, 8), np.uint8)
        raise DataError('the source is cut off')

    with pytest.raises(DataError, match='cut off'):
        write_class_raster(path, blocks(), (10, 8), PALETTE, dict(PLACE))
    assert path.read_bytes() == b'old' and len(list(tmp_path.iterdir())) == 1


FULL_DISK = """
import resource, sys
import numpy as np
from isda_suite.apis.large_images.class_rasters import write_class_raster
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
classes = np.random.default_rng(0).integers(0, 255, (1500, 1500), np.uint8)
try:
    write_class_raster(sys.argv[1], [classes], classes.shape, [(0, 0, 0)], {})
except OSError as error:
    print(error)
"""


def test_a_full_disk_leaves_nothing_behind_and_is_said(tmp_path):
    done = subprocess.run(
        [sys.executable, '-c', FULL_DISK, tmp_path / 'a.tif'],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert 'a.tif: it cannot be written' in done.stdout and 'MB are free' in done.stdout
    assert not list(tmp_path.iterdir())


def test_points_on_the_ground_stand_in_for_a_grid(tmp_path):
    from rasterio.control import GroundControlPoint

    points = [GroundControlPoint(row=r, col=c, x=c, y=-r) for r, c in ((0, 0), (0, 8), (8, 0))]
    path = tmp_path / 'a.tif'
    shape = dict(count=1, height=8, width=8, dtype='uint8', driver='GTiff')
    with rasterio.open(path, 'w', **shape, gcps=points, crs='EPSG:4326') as dataset:
        dataset.write(noise(1, 8, 8))
    picture = RasterPicture(path)
    assert picture.is_placed
    write_class_raster(
        tmp_path / 'b.tif', [np.zeros((8, 8), np.uint8)], (8, 8), PALETTE, picture.georeference
    )
    picture.close()
    with rasterio.open(tmp_path / 'b.tif') as found:
        assert len(found.gcps[0]) == 3 and found.gcps[1].to_epsg() == 4326

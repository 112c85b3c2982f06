"""GeoTIFFs through the one API: in windows, with their place on the map."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip('rasterio', reason='rasters need rasterio (pip install isda_suite[raster])')
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.features import rasterize
from rasterio.transform import from_origin

from isda_suite import Segmenter, SemanticResult
from isda_suite.apis.large_images.rasters import BandChoice
from isda_suite.apis.large_images.tiled_segmenter import SegmentSettings, TiledSegmenter
from isda_suite.datasets.errors import DataError
from tests.apis.raster_files import PLACE, noise, write_raster
from tests.apis.tiny_models import write_config
from tests.engine.toy_segmentor import write_config as write_segmentor

UTM = 'urn:ogc:def:crs:EPSG::32633'


@pytest.fixture(scope='module')
def semantic(tmp_path_factory):
    torch.manual_seed(0)
    where = tmp_path_factory.mktemp('semantic')
    return Segmenter(write_segmentor(where, where), 'random', device='cpu')


@pytest.fixture(scope='module')
def detector(tmp_path_factory):
    torch.manual_seed(0)
    config = write_config(tmp_path_factory.mktemp('detector'))
    found = Segmenter(config, 'random', device='cpu', score_thr=0.0)
    for parameter in found.model.mask_head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return found


def burnt(collection, labels, size_hw, transform):
    """Draw the polygons of a FeatureCollection with another program."""
    shapes = [
        (feature['geometry'], 1 + labels.tolist().index(feature['properties']['label']))
        for feature in collection['features']
    ]
    return rasterize(shapes, size_hw, transform=transform)


def test_a_raster_goes_in_windows_and_keeps_its_place(semantic, tmp_path):
    pixels = noise()
    result = semantic(write_raster(tmp_path / 'scene.tif', pixels))
    whole = TiledSegmenter(semantic.model).segment(
        np.ascontiguousarray(pixels[::-1].transpose(1, 2, 0))
    )
    assert isinstance(result, SemanticResult) and np.array_equal(result.class_map, whole)
    assert result.georeference.crs_name == UTM
    assert np.array_equal(result.image(), pixels.transpose(1, 2, 0))
    written = result.save(tmp_path / 'out')
    assert [path.name for path in written] == ['scene_overlay.jpg', 'scene.json', 'scene.tif']
    with rasterio.open(written[2]) as dataset:
        assert dataset.crs == PLACE['crs'] and dataset.transform == PLACE['transform']
        assert np.array_equal(dataset.read(1), whole)


def test_polygons_lie_on_the_map_where_the_pixels_do(semantic, tmp_path):
    result = semantic(write_raster(tmp_path / 'scene.tif', noise()))
    collection = json.loads(json.dumps(result.to_geojson()))
    assert collection['crs'] == {'type': 'name', 'properties': {'name': UTM}}
    found = burnt(collection, result.labels, (90, 120), PLACE['transform'])
    assert len(result) > 1 and np.array_equal(result.labels[found - 1], result.class_map)


def test_outer_rings_run_counter_clockwise_on_any_map(semantic, tmp_path):
    upside_down = rasterio.Affine(0.5, 0, 10.0, 0, 0.5, 50.0)  # rows go north
    for name, transform in (('a.tif', PLACE['transform']), ('b.tif', upside_down)):
        result = semantic(write_raster(tmp_path / name, noise(), transform=transform))
        for feature in result.to_geojson()['features']:
            for outer, *holes in feature['geometry']['coordinates']:
                assert _area(outer) > 0 and all(_area(hole) < 0 for hole in holes)


def _area(ring):
    x, y = (np.array(ring) - ring[0]).T
    return (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2


def test_longitude_and_latitude_are_named_so_that_longitude_comes_first(semantic, tmp_path):
    place = dict(crs='EPSG:4326', transform=from_origin(15.0, 45.0, 1e-4, 1e-4))
    result = semantic(write_raster(tmp_path / 'a.tif', noise(), **place))
    assert result.georeference.crs_name == 'urn:ogc:def:crs:OGC:1.3:CRS84'
    corner = result.to_geojson()['features'][0]['geometry']['coordinates'][0][0][0]
    assert abs(corner[0] - 15) < 0.1 and abs(corner[1] - 45) < 0.1


def test_ground_control_points_are_a_place_too(semantic, tmp_path):
    points = [
        GroundControlPoint(row, column, 500_000 + column / 2, 5_000_000 - row / 2)
        for row, column in ((0, 0), (0, 120), (90, 0), (90, 120))
    ]
    file = write_raster(tmp_path / 'a.tif', noise(), crs=None, transform=None)
    with rasterio.open(file, 'r+') as dataset:
        dataset.gcps = (points, rasterio.CRS.from_epsg(32633))
    result = semantic(file)
    assert result.georeference.crs_name == UTM
    np.testing.assert_allclose(result.georeference.transform, PLACE['transform'][:6], atol=1e-3)


def test_instances_of_a_raster_lie_on_the_map(detector, tmp_path):
    result = detector(write_raster(tmp_path / 'scene.tif', noise()))
    assert len(result) and result.masks.shape[1:] == (90, 120)
    first = {'features': result.to_geojson()['features'][:1]}
    found = burnt(first, result.labels[:1], (90, 120), PLACE['transform'])
    assert np.array_equal(found.astype(bool), result.masks[0])
    assert [path.suffix for path in result.save(tmp_path / 'out')] == ['.jpg', '.json']


def test_a_tiff_without_a_place_is_a_picture(semantic, detector, tmp_path):
    file = write_raster(tmp_path / 'plain.tif', noise(), crs=None, transform=None)
    assert semantic(file).georeference is None and detector(file).georeference is None
    in_windows = Segmenter(semantic.model, tiles=SegmentSettings(tile=64))(file)
    assert in_windows.georeference is None and in_windows.class_map.shape == (90, 120)
    assert in_windows.save(tmp_path / 'out')[2].suffix == '.png'


def test_deep_and_many_bands_need_a_word_which_they_are(semantic, tmp_path):
    deep = write_raster(tmp_path / 'deep.tif', noise(5, dtype='uint16', high=4000))
    with pytest.raises(DataError, match='say which are red'):
        semantic(deep)
    settings = SegmentSettings(bands=BandChoice((4, 2, 1), (2, 98)))
    result = Segmenter(semantic.model, tiles=settings)(deep)
    assert result.class_map.shape == (90, 120) and result.image().max() == 255


def test_pixels_without_data_have_no_class(semantic, tmp_path):
    pixels = noise()
    pixels[:, :30] = 0
    result = semantic(write_raster(tmp_path / 'gaps.tif', pixels, nodata=0))
    assert (result.class_map[:29] == 255).mean() > 0.9 and 255 not in result.labels
    assert result.plot().dtype == np.uint8


def test_a_broken_raster_among_good_ones_can_be_skipped(semantic, tmp_path):
    good = write_raster(tmp_path / 'good.tif', noise())
    cut = tmp_path / 'cut.tif'
    cut.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    with pytest.raises(DataError, match=r'cut\.tif'):
        semantic([cut, good])
    assert [result.name for result in semantic([cut, good], bad_images='skip')] == ['good']

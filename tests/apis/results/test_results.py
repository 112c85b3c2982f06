"""Results in every form, from masks made by hand."""

import json
import sys

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from isda_suite.apis.results import InstanceResult, Instances, SemanticResult
from isda_suite.apis.results.formats import choose_categories
from isda_suite.apis.results.stored_images import ImageInFile, ImageInMemory
from isda_suite.datasets.errors import DataError
from isda_suite.engine.errors import ConfigError
from tests.apis.tiny_models import write_image

SIZE_HW = (30, 40)


def two_masks():
    masks = np.zeros((2, *SIZE_HW), bool)
    masks[0, 2:12, 3:20] = True
    masks[0, 5:8, 6:9] = False
    masks[1, 15:28, 10:38] = True
    return masks


def instances(masks=None, count=2):
    boxes = np.array([[3, 2, 20, 12], [10, 15, 38, 28]], np.float32)[:count]
    scores = np.array([0.9, 0.4], np.float32)[:count]
    return Instances(np.array([1, 0])[:count], scores, boxes, masks)


def result_of(found, **changes):
    pixels = np.full((*SIZE_HW, 3), (200, 90, 10), np.uint8)
    facts = dict(
        name='scene', source=pixels, image_size=SIZE_HW, classes=('ant', 'bee'),
        stored=ImageInMemory(pixels), found=found,
    )  # fmt: skip
    return InstanceResult(**{**facts, **changes})


@pytest.fixture
def result():
    return result_of(instances(two_masks()))


@pytest.fixture
def nothing():
    return result_of(instances(np.zeros((0, *SIZE_HW), bool), count=0))


def class_map_result(path=None):
    class_map = np.zeros(SIZE_HW, np.uint8)
    class_map[4:9, 5:12], class_map[0, 0] = 2, 255
    pixels = np.zeros((*SIZE_HW, 3), np.uint8)
    return SemanticResult(
        name='map', source=pixels if path is None else path, image_size=SIZE_HW,
        classes=('land', 'sea', 'ice'), stored=ImageInMemory(pixels), class_map=class_map,
        palette=[[9, 9, 9], [0, 0, 99], [250, 250, 250]],
    )  # fmt: skip


def test_what_it_holds_has_the_promised_kinds_and_shapes(result):
    assert result.masks.shape == (2, 30, 40) and result.masks.dtype == bool
    assert result.boxes.shape == (2, 4) and result.boxes.dtype == np.float32
    assert result.labels.dtype == np.int64 and result.scores.dtype == np.float32
    assert len(result) == 2 and len(result.above(0.5)) == 1
    assert np.array_equal(result.above(0.5).masks, two_masks()[:1])
    assert "'scene' (40 x 30): 1 bee, 1 ant" in repr(result)


def test_coco_entries_are_read_and_evaluated_by_pycocotools(result, tmp_path):
    entries = json.loads(json.dumps(result.to_coco(image_id=7)))
    annotations = [
        dict(id=number, image_id=7, category_id=label + 1, iscrowd=0, area=int(mask.sum()),
             bbox=[0, 0, 1, 1], segmentation=coco_mask.encode(np.asfortranarray(mask)))
        for number, (label, mask) in enumerate(zip([1, 0], two_masks(), strict=True), 1)
    ]  # fmt: skip
    truth = COCO()
    truth.dataset = dict(
        images=[dict(id=7, height=30, width=40)],
        categories=[dict(id=1, name='ant'), dict(id=2, name='bee')],
        annotations=annotations,
    )
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes(entries), 'segm')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)
    assert entries[0]['bbox'] == [3, 2, 17, 10]


def test_categories_are_those_given_or_those_of_coco(result):
    assert [e['category_id'] for e in result.to_coco(category_ids=[30, 40])] == [40, 30]
    with pytest.raises(ConfigError, match='category_ids has 1 categories'):
        result.to_coco(category_ids=[30])
    from mmdet.datasets import CocoDataset

    names = CocoDataset.METAINFO['classes']
    categories = choose_categories(names, np.array([79]), None)
    assert (names[11], categories[11]) == ('stop sign', 13) and categories[79] == 90
    assert len(categories) == 80


def test_polygons_have_holes_and_the_area_of_the_mask(result):
    collection = json.loads(json.dumps(result.to_geojson()))
    assert collection['type'] == 'FeatureCollection' and 'crs' not in collection
    first, second = collection['features']
    assert first['properties'] == {'label': 1, 'class': 'bee', 'score': pytest.approx(0.9)}
    (polygon,) = first['geometry']['coordinates']
    assert len(polygon) == 2 and sorted(polygon[1])[0] == [6, 5]
    (outer,) = second['geometry']['coordinates'][0]
    assert sorted(outer[:-1]) == [[10, 15], [10, 28], [38, 15], [38, 28]]


def test_detections_hold_the_same(result):
    supervision = pytest.importorskip('supervision', reason='pip install isda_suite[supervision]')
    found = result.to_supervision()
    assert isinstance(found, supervision.Detections)
    assert np.array_equal(found.mask, result.masks)
    assert np.array_equal(found.xyxy, result.boxes)
    assert np.array_equal(found.class_id, result.labels)
    assert np.array_equal(found.confidence, result.scores)
    assert found.data['class_name'].tolist() == ['bee', 'ant']


def test_without_supervision_one_is_told_how_to_install_it(result, monkeypatch):
    monkeypatch.setitem(sys.modules, 'supervision', None)
    with pytest.raises(ConfigError, match=r'pip install .isda_suite\[supervision\]'):
        result.to_supervision()


def test_nothing_found_is_a_result_like_any_other(nothing, tmp_path):
    assert len(nothing) == 0 and nothing.to_coco() == []
    assert nothing.to_geojson() == {'type': 'FeatureCollection', 'features': []}
    assert 'nothing found' in repr(nothing)
    enlarged = cv2.resize(nothing.image(), nothing.plot().shape[1::-1])
    assert np.array_equal(nothing.plot(), enlarged)
    assert json.loads(nothing.save(tmp_path)[1].read_text())['annotations'] == []


def test_boxes_without_masks_are_drawn_and_exported_but_are_no_masks(tmp_path):
    boxes = result_of(instances())
    assert not boxes.has_masks
    with pytest.raises(DataError, match='boxes and no masks'):
        boxes.masks  # noqa: B018
    assert 'segmentation' not in boxes.to_coco()[0]
    (ring,) = boxes.to_geojson()['features'][0]['geometry']['coordinates'][0]
    assert ring[0] == ring[-1] == [3, 2] and ring[2] == [20, 12]
    assert json.loads(boxes.save(tmp_path)[1].read_text())['annotations'][0]['area'] == 170
    assert np.ptp(boxes.plot().reshape(-1, 3), axis=0).max() > 50


def test_the_picture_shows_the_masks_in_rgb(result):
    picture = result.plot()
    factor = picture.shape[0] // 30
    assert picture.shape == (30 * factor, 40 * factor, 3) and picture.dtype == np.uint8
    assert picture[-1, 0].tolist() == [10, 90, 200]  # the image is BGR
    inside = picture[20 * factor, 30 * factor].astype(int)
    assert np.abs(inside - [10, 90, 200]).max() > 30


def test_notebooks_get_a_png_of_bounded_size():
    pixels = np.zeros((2200, 300, 3), np.uint8)
    tall = result_of(
        instances(np.zeros((0, 2200, 300), bool), count=0), stored=ImageInMemory(pixels),
        image_size=(2200, 300), source=pixels,
    )  # fmt: skip
    content = tall._repr_png_()
    assert content.startswith(b'\x89PNG')
    shown = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert max(shown.shape) == 1024


def test_what_is_saved_is_a_picture_and_a_coco_data_set(result, tmp_path):
    picture, facts = result.save(tmp_path / 'new')
    assert [p.name for p in (picture, facts)] == ['scene_overlay.jpg', 'scene.json']
    assert sorted(p.name for p in picture.parent.iterdir()) == ['scene.json', 'scene_overlay.jpg']
    assert cv2.imread(str(picture)).shape == result.plot().shape
    read = COCO(str(facts))
    assert np.array_equal(read.annToMask(read.anns[1]).astype(bool), two_masks()[0])
    assert read.anns[2]['area'] == two_masks()[1].sum()
    assert [c['name'] for c in read.loadCats(read.getCatIds())] == ['ant', 'bee']
    assert (read.imgs[1]['height'], read.imgs[1]['width']) == SIZE_HW


def test_the_source_is_never_replaced(tmp_path):
    image = write_image(tmp_path / 'map.png', *SIZE_HW)
    before = image.read_bytes()
    with pytest.raises(ConfigError, match='is the source'):
        class_map_result(path=image).save(tmp_path)
    assert image.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ['map.png']


def test_a_class_map_gives_its_classes_as_instances(tmp_path):
    result = class_map_result()
    assert result.labels.tolist() == [0, 2] and result.scores.tolist() == [1, 1]
    assert result.boxes.tolist() == [[0, 0, 40, 30], [5, 4, 12, 9]]
    assert result.masks.sum(axis=(1, 2)).tolist() == [30 * 40 - 35 - 1, 35]
    assert [entry['category_id'] for entry in result.to_coco()] == [1, 3]
    names = [path.name for path in result.save(tmp_path)]
    assert names == ['map_overlay.jpg', 'map.json', 'map.png']
    written = cv2.imread(str(tmp_path / 'map.png'), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(written, result.class_map)


def test_a_large_class_map_is_drawn_reduced():
    class_map = np.zeros((10, 5000), np.uint8)
    class_map[:, 2500:] = 1
    pixels = np.zeros((10, 5000, 3), np.uint8)
    large = SemanticResult(
        name='wide', source=pixels, image_size=(10, 5000), classes=('land', 'sea'),
        stored=ImageInMemory(pixels), class_map=class_map, palette=[[9, 9, 9], [0, 0, 99]],
    )  # fmt: skip
    picture = large.plot()
    assert picture.shape[1] == 2 * 1667  # every third pixel, enlarged to 4096 at most
    assert (picture[0, 0] != picture[0, -1]).any()


def test_an_image_that_is_gone_is_named(tmp_path):
    image = write_image(tmp_path / 'gone.png', *SIZE_HW)
    kept = result_of(instances(two_masks()), source=image, stored=ImageInFile(image))
    image.unlink()
    assert len(kept.to_coco()) == 2
    with pytest.raises(DataError, match=r'no image .*gone\.png'):
        kept.plot()

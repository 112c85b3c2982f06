"""Labels of other tools as annotation files in COCO format."""

import base64
import json
import sys

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_masks

from isda_suite.apis.labels import importing as label_import
from isda_suite.apis.labels.importing import describe, import_labels
from isda_suite.datasets.errors import DataError
from isda_suite.engine.errors import ConfigError
from tests.tools.in_process import call_tool

pytest.importorskip('supervision.dataset.formats.labelme')

HEIGHT, WIDTH = 40, 60
# A square of 10 x 10 pixels whose corner is at x=20, y=10.
SQUARE = np.zeros((HEIGHT, WIDTH), np.uint8)
SQUARE[10:20, 20:30] = 1
XML = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<image id="0" name="a.png" width="60" height="40">{shapes}</image>
</annotations>"""
VOC = """<annotation><filename>a.png</filename>
<size><width>60</width><height>40</height></size>{objects}</annotation>"""
VOC_BOX = """<object><name>{name}</name><bndbox><xmin>21</xmin><ymin>11</ymin><xmax>30</xmax>
<ymax>20</ymax></bndbox>{more}</object>"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'images').mkdir()
    for name in ('a.png', 'b.png'):
        cv2.imwrite(str(tmp_path / 'images' / name), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    return tmp_path


def read(folder, kind, source, **more):
    result = import_labels(kind, folder / source, folder / 'out.json', progress=False, **more)
    content = json.loads((folder / 'out.json').read_text())
    assert [one['name'] for one in content['categories']] == list(result.classes)
    assert not result.report.fatal, result.report.table()
    return content, result


def mask_of(annotation):
    code = annotation['segmentation']
    if isinstance(code, list):
        code = coco_masks.merge(coco_masks.frPyObjects(code, HEIGHT, WIDTH))
    return coco_masks.decode(code)


def write(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def yolo(folder, text, names='names: [cat, dog]'):
    write(folder / 'labels/a.txt', text)
    write(folder / 'data.yaml', names)


def labelme(folder, shapes, **more):
    content = {'imagePath': 'C:\\x\\a.png', 'imageHeight': HEIGHT, 'imageWidth': WIDTH, **more}
    write(folder / 'json/a.json', json.dumps({**content, 'shapes': shapes}))


def shape(kind, points, label='cat', **more):
    return {'shape_type': kind, 'points': points, 'label': label, 'group_id': None, **more}


def cvat(folder, shapes):
    write(folder / 'annotations.xml', XML.format(shapes=shapes))


def test_yolo_boxes_and_polygons_are_read(folder):
    corners = [(20, 10), (30, 10), (30, 20), (20, 20)]
    polygon = ' '.join(f'{x / WIDTH} {y / HEIGHT}' for x, y in corners)
    yolo(folder, f'1 0.5 0.5 0.2 0.5\n0 {polygon}\n')
    content, result = read(folder, 'yolo', 'labels')
    assert content['images'] == [{'id': 1, 'file_name': 'a.png', 'height': 40, 'width': 60}]
    box, square = content['annotations']
    assert box['category_id'] == 2 and box['bbox'] == pytest.approx([24, 10, 12, 20], abs=1e-3)
    assert 'segmentation' not in box and box['area'] == pytest.approx(240, abs=0.01)
    assert (mask_of(square) == SQUARE).all() and square['area'] == 100
    assert result.counts['objects with a box alone'] == 1
    assert result.counts['images without labels, left out'] == 1
    text = describe(result)
    assert "metainfo = dict(classes=('cat', 'dog'))" in text and '1 objects with a box' in text


def test_boxes_become_masks_if_asked_for(folder):
    yolo(folder, '1 0.5 0.5 0.2 0.5\n')
    content, _ = read(folder, 'yolo', 'labels', boxes_as_masks=True)
    (one,) = content['annotations']
    assert one['segmentation'][0] == pytest.approx([24, 10, 36, 10, 36, 30, 24, 30], abs=1e-3)


@pytest.mark.parametrize('names', ['names:\n  0: cat\n  1: dog\n', 'names: [cat, dog]'])
def test_yolo_takes_names_beside_or_given(folder, names):
    yolo(folder, '0 0.5 0.5 0.2 0.5\n', names)
    assert read(folder, 'yolo', 'labels', boxes_as_masks=True)[1].classes == ('cat', 'dog')
    write(folder / 'mine.txt', 'bird\nfish\n')
    other = dict(boxes_as_masks=True, classes=folder / 'mine.txt')
    assert read(folder, 'yolo', 'labels', **other)[1].classes == ('bird', 'fish')


def test_voc_boxes_and_polygons_are_read(folder):
    corners = [(21, 11), (31, 11), (31, 21), (21, 21)]
    points = ''.join(f'<x{i}>{x}</x{i}><y{i}>{y}</y{i}>' for i, (x, y) in enumerate(corners, 1))
    objects = VOC_BOX.format(name='dog', more=f'<polygon>{points}</polygon>')
    objects += VOC_BOX.format(name='cat', more='')
    write(folder / 'Annotations/a.xml', VOC.format(objects=objects))
    content, result = read(folder, 'voc', 'Annotations', images=folder / 'images')
    assert result.classes == ('cat', 'dog')
    square, box = content['annotations']
    assert square['category_id'] == 2 and (mask_of(square) == SQUARE).all()
    assert box['category_id'] == 1 and 'segmentation' not in box
    # The corners of VOC count from 1 and belong to the box.
    assert box['bbox'] == square['bbox'] == [20, 10, 10, 10]


def test_labelme_shapes_are_read(folder):
    corners = [[20, 10], [30, 10], [30, 20], [20, 20]]
    patch = base64.b64encode(cv2.imencode('.png', np.full((10, 10), 255, np.uint8))[1]).decode()
    shapes = [
        shape('polygon', corners),
        shape('rectangle', [[30, 20], [20, 10]], 'dog'),
        shape('mask', [[20, 10], [29, 19]], 'dog', mask=patch),
        shape('circle', [[30, 20], [30, 25]]),
        shape('line', [[1, 1], [9, 9]]),
    ]
    labelme(folder, shapes)
    content, _ = read(folder, 'labelme', 'json', images=folder / 'images')
    polygon, box, mask, circle = content['annotations']
    assert (mask_of(polygon) == SQUARE).all()
    assert box['bbox'] == [20, 10, 10, 10] and 'segmentation' not in box
    assert (mask_of(mask) == SQUARE).all() and mask['bbox'] == [20, 10, 10, 10]
    assert circle['area'] == pytest.approx(np.pi * 25, rel=0.05)
    assert [one['category_id'] for one in content['annotations']] == [1, 2, 2, 1]


def test_outlines_are_kept_as_they_were_drawn(folder):
    corners = [[20.25, 10.5], [29.75, 10.5], [25, 19.125]]
    labelme(folder, [shape('polygon', corners)])
    content, _ = read(folder, 'labelme', 'json', images=folder / 'images')
    assert content['annotations'][0]['segmentation'] == [[20.25, 10.5, 29.75, 10.5, 25, 19.125]]


def test_painted_and_outlined_parts_of_a_group_are_one_mask(folder):
    patch = base64.b64encode(cv2.imencode('.png', np.full((4, 4), 255, np.uint8))[1]).decode()
    parts = [
        shape('polygon', [[20, 10], [30, 10], [30, 20], [20, 20]], group_id=1),
        shape('mask', [[0, 0], [3, 3]], mask=patch, group_id=1),
    ]
    labelme(folder, parts)
    content, _ = read(folder, 'labelme', 'json', images=folder / 'images')
    (one,) = content['annotations']
    assert one['area'] == 116 and mask_of(one)[:4, :4].all() and one['bbox'] == [0, 0, 30, 20]


def test_parts_of_a_group_are_one_object(folder):
    parts = [[[1, 1], [5, 1], [5, 5]], [[20, 10], [30, 10], [30, 20], [20, 20]]]
    labelme(folder, [shape('polygon', points, group_id=7) for points in parts])
    content, _ = read(folder, 'labelme', 'json', images=folder / 'images')
    (one,) = content['annotations']
    assert mask_of(one)[12, 22] and mask_of(one)[2, 4] and one['bbox'] == [1, 1, 29, 19]


def test_cvat_shapes_are_read(folder):
    cvat(
        folder,
        '<box label="dog" xtl="20" ytl="10" xbr="30" ybr="20"/>'
        '<polygon label="cat" points="20,10;30,10;30,20;20,20"/>'
        '<mask label="cat" rle="0,4" left="20" top="10" width="2" height="2"/>'
        '<ellipse label="cat" cx="30" cy="20" rx="5" ry="5"/>'
        '<box label="dog" xtl="20" ytl="10" xbr="40" ybr="20" rotation="90"/>'
        '<polyline label="road" points="1,1;2,2"/>',
    )
    content, result = read(folder, 'cvat', 'annotations.xml')
    box, polygon, mask, ellipse, turned = content['annotations']
    assert result.classes == ('cat', 'dog')
    assert box['bbox'] == [20, 10, 10, 10] and 'segmentation' not in box
    assert (mask_of(polygon) == SQUARE).all()
    assert mask_of(mask).sum() == 4 and mask['bbox'] == [20, 10, 2, 2]
    assert ellipse['area'] == pytest.approx(np.pi * 25, rel=0.05)
    assert turned['bbox'] == pytest.approx([25, 5, 10, 20])


def test_a_mask_of_cvat_runs_row_by_row(folder):
    cvat(folder, '<mask label="cat" rle="1,3,1,1" left="3" top="5" width="3" height="2"/>')
    content, _ = read(folder, 'cvat', 'annotations.xml')
    window = mask_of(content['annotations'][0])[5:7, 3:6]
    assert window.tolist() == [[0, 1, 1], [1, 0, 1]]


def test_names_given_settle_the_order_for_every_file(folder):
    cvat(folder, '<box label="cat" xtl="1" ytl="1" xbr="9" ybr="9"/>')
    write(folder / 'names.txt', 'dog\ncat\n')
    given = dict(classes=folder / 'names.txt', boxes_as_masks=True)
    content, result = read(folder, 'cvat', 'annotations.xml', **given)
    assert result.classes == ('dog', 'cat')
    assert content['annotations'][0]['category_id'] == 2


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda f: yolo(f, '0 0.5 0.5 0.2 0.5\n0 0.5 0.5'), r'a\.txt, line 2: .*5 tokens'),
        (lambda f: yolo(f, '0 0.5 x 0.2 0.5'), r'a\.txt, line 1'),
        (lambda f: yolo(f, '2 0.5 0.5 0.2 0.5'), r'a\.txt, line 1: class 2, .*2 names: cat, dog'),
        (lambda f: write(f / 'labels/c.txt', '') or yolo(f, ''), r'c\.txt: there is no image c in'),
    ],
)
def test_wrong_labels_of_yolo_name_file_and_line(folder, make, message):
    make(folder)
    with pytest.raises(DataError, match=message):
        import_labels('yolo', folder / 'labels', folder / 'o.json', progress=False)
    assert not (folder / 'o.json').exists()


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('<annotation>', r'a\.xml is not a whole XML file'),
        ('<other/>', r'a\.xml: expected <annotation>, found <other>'),
        (VOC.format(objects='<object><name>x</name></object>'), r'a\.xml, object 1: .*bndbox'),
        (
            VOC.format(objects=VOC_BOX.format(name='x', more='').replace('>21<', '>q<')),
            r"a\.xml, object 1: .*xmin.*'q'",
        ),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', r'entities are refused'),
    ],
)
def test_wrong_labels_of_voc_name_file_and_object(folder, text, message):
    write(folder / 'voc/a.xml', text)
    with pytest.raises(DataError, match=message):
        import_labels('voc', folder / 'voc', folder / 'o.json', folder / 'images', progress=False)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{', r'a\.json is not a whole JSON file'),
        ('[' * 100_000, r'a\.json is not a whole JSON file'),
        ('[]', r'a\.json is no file of LabelMe'),
        (json.dumps({'shapes': [shape('polygon', [], None)]}), 'shape 1: its label is None'),
        (json.dumps({'shapes': [shape('polygon', [[0, 0]])]}), r'a\.json, shape 1: .*at least 3'),
        (json.dumps({'shapes': [shape('mask', [[0, 0]], mask='!')]}), r'a\.json, shape 1: '),
        (json.dumps({'shapes': [shape('mask', [[0, 0]])]}), r"shape 1: KeyError: 'mask'"),
    ],
)
def test_wrong_labels_of_labelme_name_file_and_shape(folder, text, message):
    write(folder / 'json/a.json', text)
    with pytest.raises(DataError, match=message):
        import_labels('labelme', folder / 'json', folder / 'o.json', folder / 'images', None, False)


@pytest.mark.parametrize(
    ('shapes', 'message'),
    [
        ('<box label="x" xtl="q" ytl="1" xbr="2" ybr="2"/>', r'image a\.png, shape 1 \(box\)'),
        ('<box xtl="1" ytl="1" xbr="2" ybr="2"/>', 'it has no label'),
        ('<polygon label="x" points="1,1;2,2"/>', r'shape 1 \(polygon\).*three or more pairs'),
        ('<polygon label="x" points="1,1;2,2;nan,3"/>', 'not finite'),
        ('<mask label="x" rle="1,9" left="0" top="0" width="2" height="2"/>', 'runs cover 10'),
        ('<mask label="x" rle="4" left="59" top="0" width="2" height="2"/>', 'leaves the image'),
        ('<blob label="x"/>', 'a shape of this kind is not known'),
    ],
)
def test_wrong_labels_of_cvat_name_image_and_shape(folder, shapes, message):
    cvat(folder, shapes)
    with pytest.raises(DataError, match=message):
        import_labels('cvat', folder / 'annotations.xml', folder / 'o.json', progress=False)


def test_files_of_cvat_that_are_others_are_named(folder):
    file = folder / 'annotations.xml'
    for text, message in (
        (XML.format(shapes='').replace('"60"', '"61"'), r'labelled at \(40, 61\).*\(40, 60\)'),
        ('<annotations><track id="0"/></annotations>', 'tracks of a video: export'),
        ('<annotations/>', 'holds no <image>'),
        ('<a/>', 'expected <annotations>, found <a>'),
    ):
        write(file, text)
        with pytest.raises(DataError, match=message):
            write(folder / 'names.txt', 'x')
            import_labels('cvat', file, folder / 'o.json', classes=folder / 'names.txt')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('coco', 'labels', 'o.json'), 'expected yolo, voc, labelme, cvat'),
        (('yolo', 'labels', 'o.txt'), 'must end with .json'),
        (('yolo', 'images', 'o.json'), 'no data.yaml or'),
        (('yolo', 'absent', 'o.json'), 'absent does not exist'),
        (('voc', 'images/a.xml', 'o.json'), 'is no folder'),
        (('cvat', 'images', 'o.json'), 'one file, annotations.xml'),
        (('voc', 'images', 'o.json', 'absent'), 'folder of images .* does not exist'),
    ],
)
def test_wrong_arguments_are_explained(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    (folder / 'images/a.xml').write_text('<annotation/>')
    write(folder / 'names.txt', 'x')
    names = None if 'data.yaml' in message else 'names.txt'
    with pytest.raises(ConfigError, match=message):
        import_labels(*arguments, classes=names)


@pytest.mark.parametrize('text', ['names: 3', 'names: {0: a, 2: b}', 'a: [', 'names: [a, a]'])
def test_wrong_files_of_names_are_named(folder, text):
    yolo(folder, '', text)
    with pytest.raises(ConfigError, match=r'data\.yaml'):
        import_labels('yolo', folder / 'labels', folder / 'o.json')


def test_a_missing_library_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, 'supervision', None)
    with pytest.raises(ConfigError, match=r"pip install 'isda_suite\[supervision\]'"):
        import_labels('yolo', folder / 'labels', folder / 'o.json')


def test_images_of_one_name_in_two_folders_are_told_apart(folder):
    for split in ('one', 'two'):
        (folder / 'images' / split).mkdir()
        cv2.imwrite(str(folder / 'images' / split / 'c.png'), SQUARE)
        write(folder / 'labels' / split / 'c.txt', '0 0.5 0.5 0.5 0.5')
    write(folder / 'data.yaml', 'names: [x]')
    content, _ = read(folder, 'yolo', 'labels', boxes_as_masks=True)
    assert [one['file_name'] for one in content['images']] == ['one/c.png', 'two/c.png']
    index = label_import._ImageIndex(folder / 'images')
    with pytest.raises(DataError, match=r'c may be any of one/c\.png, two/c\.png'):
        index.find('three/c', 'x')


def test_the_tool_ends_as_its_check_says(folder, monkeypatch, capsys):
    yolo(folder, '0 0.5 0.5 0.2 0.5\n')
    words = [folder / 'labels', folder / 'out.json']
    tool = 'tools/dataset_converters/labels.py'
    assert call_tool(monkeypatch, tool, 'yolo', *words, '--boxes-as-masks') == 0
    assert 'wrote' in capsys.readouterr().out
    yolo(folder, '7 0.5 0.5 0.2 0.5\n')
    assert call_tool(monkeypatch, tool, 'yolo', *words) == 3
    assert 'line 1: class 7' in capsys.readouterr().err

"""Exported models compute what the models compute; every method of `models.METHODS` is tested."""

import importlib.util
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample

from isda_suite.apis.performance.speed_protocols import SpeedSettings, prepare_step
from isda_suite.export.compiling import breaks_of, compiled_differences, graph_breaks
from isda_suite.export.decoding import class_map_of, detections_of
from isda_suite.export.exporting import export_model
from isda_suite.export.runtime import OnnxModel
from isda_suite.layers.export_form import find_export_form
from isda_suite.methods.idip.randomness import NoiseRecorder, RecordedNoise

from .models import METHODS, QUICK, build, picture

MISSING = [n for n in ('onnx', 'onnxscript', 'onnxruntime') if importlib.util.find_spec(n) is None]
needs_onnx = pytest.mark.skipif(bool(MISSING), reason=f'not installed: {", ".join(MISSING)}')
INSTANCES = [name for name in METHODS if name not in ('defvistr', 'isdnet')]
SIZE = (64, 96)
IMAGE = (59, 90)  # the rest is padding
_models = {}


def model_of(name):
    if name not in _models:
        _models[name] = build(name)
    return _models[name]


def by_speed(*names):
    """Give all methods as parameters; those that are not named are slow."""
    return [pytest.param(name, marks=() if name in names else pytest.mark.slow) for name in METHODS]


def predicted(model, image, noises=None, original=None):
    """Let the model itself predict a picture (H, W, 3) BGR that had another size or its own."""
    size, original = image.shape[:2], original or image.shape[:2]
    meta = dict(img_shape=size, ori_shape=original, img_id=1)
    meta['scale_factor'] = (size[1] / original[1], size[0] / original[0])
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    data = dict(inputs=[pixels], data_samples=[DetDataSample(metainfo=meta)])
    data = model.data_preprocessor(data, False)
    extra = {} if noises is None else dict(noises=noises)
    with torch.no_grad():
        (sample,) = model.predict(data['inputs'], data['data_samples'], **extra)
    return sample.pred_instances


def through_the_form(form, image, **others):
    """Run the form on a picture (H, W, 3) BGR that is padded to SIZE; outputs of the one image."""
    images = np.zeros((1, 3, *SIZE), np.uint8)
    images[0, :, : image.shape[0], : image.shape[1]] = image[..., ::-1].transpose(2, 0, 1)
    sizes = torch.tensor([image.shape[:2]])
    with torch.no_grad():
        found = form(images=torch.from_numpy(images), sizes=sizes, **others)
    return {name: value[0].numpy() for name, value in zip(form.outputs, found, strict=True)}


def recorded_noise(model):
    """Record the random numbers of a picture: for the model, and as the form's input."""
    options = find_export_form(model).options
    recorder = NoiseRecorder(model.image_noises([dict(img_id=1)])[0])
    predicted(model, picture(*IMAGE), [recorder])
    first, *rest = recorder.normals
    steps = [torch.cat(rest[i : i + 2]) for i in range(0, len(rest), 2)]
    assert len(steps) == options.sampling_steps - 1
    return recorder.replay(), torch.stack([first, *steps])[None]


def assert_same_instances(found, expected, mask_share=1e-3):
    """Compare decoded results; the order of equal scores is free, so rows are sorted."""
    assert len(found.scores) == len(expected.scores) > 1
    # Not all of mmdet's detectors sort.
    np.testing.assert_allclose(found.scores, np.sort(expected.scores.numpy())[::-1], atol=1e-5)
    orders = [
        np.lexsort((masks.reshape(len(masks), -1).sum(1), labels))
        for masks, labels in (
            (found.masks, found.labels),
            (expected.masks.numpy(), expected.labels.numpy()),
        )
    ]
    np.testing.assert_array_equal(found.labels[orders[0]], expected.labels.numpy()[orders[1]])
    differing = found.masks[orders[0]] != expected.masks.numpy()[orders[1]]
    assert differing.mean() <= mask_share
    assert expected.masks.any()


@pytest.mark.parametrize('name', INSTANCES)
def test_a_form_finds_what_the_model_finds_in_a_padded_picture(name):
    """Form and numpy's decoding together are the model's prediction."""
    model, image = model_of(name), picture(*IMAGE)
    form = find_export_form(model).eval()
    noises, others = None, {}
    if name == 'idip':
        noise, others['noise'] = recorded_noise(model)
        noises = [noise]
    outputs = through_the_form(form, image, **others)
    found = detections_of(outputs, {**form.describe(), 'results': form.results}, IMAGE, IMAGE)
    assert_same_instances(found, predicted(model, image, noises))


@pytest.mark.parametrize('name', ['isda', 'condinst', 'mask2former', 'queryinst'])
def test_results_are_brought_to_the_size_that_a_picture_had(name):
    """Masks, boxes, and the scores that depend on the masks, as in the model."""
    model, image, original = model_of(name), picture(*IMAGE), (83, 131)
    form = find_export_form(model).eval()
    outputs = through_the_form(form, image)
    found = detections_of(outputs, {**form.describe(), 'results': form.results}, IMAGE, original)
    expected = predicted(model, image, original=original)
    assert_same_instances(found, expected)
    order = np.argsort(-expected.scores.numpy(), kind='stable')
    if name != 'isda':  # which has boxes of another kind
        np.testing.assert_allclose(found.boxes, expected.bboxes.numpy()[order], atol=1e-2)


def test_the_form_of_condinst_scores_as_adelaidet_where_the_head_does():
    model = build('condinst', {'detector.bbox_head.type': 'isda_suite.AdelaiDetCondInstBboxHead'})
    form, image = find_export_form(model).eval(), picture(*IMAGE)
    outputs = through_the_form(form, image)
    found = detections_of(outputs, {**form.describe(), 'results': form.results}, IMAGE, IMAGE)
    assert_same_instances(found, predicted(model, image))
    plain = predicted(model_of('condinst'), image)
    assert not np.isclose(found.scores[0], plain.scores[0].item(), atol=1e-3)


def test_the_form_of_isdnet_gives_the_classes_of_the_model_also_for_a_resized_picture():
    model, image = model_of('isdnet'), picture(*SIZE)
    form = find_export_form(model).eval()
    images = torch.from_numpy(image[..., ::-1].transpose(2, 0, 1).copy())[None]
    with torch.no_grad():
        logits, classes = (value[0].numpy() for value in form(images))
        normalised = form.image_input(images)
        expected = model.predict(normalised)[0].pred_sem_seg.data[0].numpy()
    assert len(np.unique(expected)) > 1
    assert (classes != expected).mean() < 1e-3
    outputs = dict(logits=logits, class_map=classes)
    assert class_map_of(outputs, SIZE, SIZE) is classes
    from isda_suite.methods.isdnet.postprocess import class_map

    enlarged = class_map(torch.from_numpy(logits), SIZE, (100, 130)).numpy()
    assert (class_map_of(outputs, SIZE, (100, 130)) != enlarged).mean() < 2e-3


def test_the_form_of_defvistr_gives_the_raw_outputs_of_the_model():
    model = model_of('defvistr')
    form = find_export_form(model).eval()
    inputs = form.example_inputs(SIZE)
    with torch.no_grad():
        found = form(**inputs)
        frames = form.image_input(inputs['images'][0])[None]
        cls_logits, boxes, masks = model._forward(frames)
    for one, expected in zip(found, (cls_logits[-1], boxes[-1], masks), strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-5, atol=1e-5)


@needs_onnx
@pytest.mark.parametrize('name', by_speed(*QUICK))
def test_onnxruntime_computes_what_pytorch_computes(name, tmp_path):
    """The check of the export itself; and its header is enough to run the file."""
    model = model_of(name)
    done = export_model(model, tmp_path / 'm.onnx', 'onnx', SIZE, optimize=False)
    assert list(done.differences) == ['64x96']
    assert all(one.equal for one in done.differences['64x96'])
    runtime = OnnxModel(tmp_path / 'm.onnx')
    assert runtime.classes == tuple(model.dataset_meta['classes'])
    assert runtime.description['opset'] >= 18
    if runtime.task == 'instance' and name != 'idip':
        image = picture(*IMAGE)
        assert_same_instances(runtime(image), predicted(model, image))
    if name == 'idip':
        noise, values = recorded_noise(model)
        image = picture(*IMAGE)
        assert_same_instances(runtime(image, values[0].numpy()), predicted(model, image, [noise]))


@needs_onnx
@pytest.mark.parametrize('name', by_speed('isdnet'))
def test_free_height_and_width_stay_free(name, tmp_path):
    _assert_free(name, tmp_path / 'm.onnx', 'onnx', optimize=False)


@pytest.mark.slow
@pytest.mark.parametrize('name', METHODS)
def test_free_height_and_width_stay_free_in_a_saved_program(name, tmp_path):
    _assert_free(name, tmp_path / 'm.pt2', 'torch')


def _assert_free(name, path, format, **options):
    """Export with free sides; the file was run at two sizes."""
    model = model_of(name)
    least = find_export_form(model).least_side
    size = (max(SIZE[0], least), max(SIZE[1], least))
    done = export_model(model, path, format, size, True, **options)
    assert len(done.differences) == 2
    assert all(one.equal for found in done.differences.values() for one in found)


@pytest.mark.parametrize('name', by_speed('isdnet'))
def test_a_saved_program_computes_what_pytorch_computes(name, tmp_path):
    done = export_model(model_of(name), tmp_path / 'm.pt2', 'torch', SIZE)
    assert all(one.equal for one in done.differences['64x96'])
    assert (tmp_path / 'm.json').is_file()


@pytest.mark.parametrize('name', by_speed('isdnet', 'iuq'))
def test_the_compiler_takes_a_form_as_one_graph(name):
    assert graph_breaks(model_of(name), SIZE) == []


@pytest.mark.slow
@pytest.mark.parametrize('name', ['isdnet', 'iuq'])
def test_inductor_computes_what_pytorch_computes(name):
    if shutil.which(os.environ.get('CXX', 'g++')) is None:
        pytest.skip('inductor needs a C++ compiler')
    assert all(one.equal for one in compiled_differences(model_of(name), SIZE))


@pytest.mark.parametrize('name', ['isda', 'isdnet'])
def test_the_compiler_takes_a_models_own_prediction_as_one_graph(name):
    settings = SpeedSettings(protocol='model', height=72, width=128)  # rows in blocks for ISDNet
    found = breaks_of(prepare_step(model_of(name), settings).run)
    assert (found.graphs, found.reasons) == (1, [])
    assert found.operations > 100


def test_breaks_are_named_with_their_place_and_errors_of_the_model_are_its_own():
    ones = torch.ones(3)
    found = breaks_of(lambda: ones.nonzero() + len(ones[ones > 0]))
    assert found.graphs > 1
    assert 'Dynamic shape operator' in found.reasons[0]
    assert 'tests/export/test_export.py:' in found.reasons[0]
    with pytest.raises(RuntimeError, match='size'):
        breaks_of(lambda: ones.view(2))


def test_recorded_noise_is_what_the_model_drew():
    """So that the comparison of IDIP is no comparison of two ways to draw."""
    noise, values = recorded_noise(model_of('idip'))
    assert isinstance(noise, RecordedNoise)
    assert values.shape[1:] == tuple(find_export_form(model_of('idip')).describe()['noise_shape'])


def test_the_runtime_does_without_pytorch():
    code = 'import sys; from isda_suite.export import OnnxModel; sys.exit("torch" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0

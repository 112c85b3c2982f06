"""Images of 5000 x 5000 pixels pass through loading and evaluation in little memory."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from isda_suite.datasets.errors import DataError
from isda_suite.datasets.image_file import read_image
from isda_suite.datasets.transforms import LoadImage
from tests.data.bombs import claims_pixels
from tests.tools.running import environment

SIDE = 5000
IMAGE_MB = SIDE * SIDE * 3 / 1e6

MEASURE = """
import sys
import numpy as np, torch
from isda_suite.datasets.label_file import LabelRule
from isda_suite.datasets.transforms import LoadImage, LoadSegLabels, PackSegInputs
from isda_suite.engine.memory import peak_of
from isda_suite.metrics import IoUMetric

folder, side = sys.argv[1], int(sys.argv[2])

def load(suffix):
    sample = {'img_path': f'{folder}/image{suffix}', 'seg_map_path': f'{folder}/label{suffix}',
              'label_rule': LabelRule(num_classes=2), 'seg_fields': [], 'reduce_zero_label': False}
    for transform in (LoadImage(), LoadSegLabels(), PackSegInputs()):
        sample = transform(sample)
    return sample

def evaluate():
    metric = IoUMetric()
    metric.dataset_meta = {'classes': ('a', 'b')}
    metric.process(None, [{'pred_sem_seg': {'data': prediction}, 'gt_sem_seg': {'data': label}}])

load('_small.png')  # what is loaded on the first use is no matter of the size
sample, loading = peak_of(lambda: load('.tif'))
label = sample['data_samples'].gt_sem_seg.data
prediction = label.long()
torch.bincount(torch.zeros(9, dtype=torch.int64))
_, evaluation = peak_of(evaluate)
print(loading / 1e6, evaluation / 1e6)
"""


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    tile = rng.integers(0, 256, (50, 50, 3), np.uint8)
    for side, suffix in ((50, '_small.png'), (SIDE, '.tif')):
        image = np.tile(tile, (side // 50, side // 50, 1))
        cv2.imwrite(str(tmp_path / f'image{suffix}'), image)
        cv2.imwrite(str(tmp_path / f'label{suffix}'), image[:, :, 0] // 128)
    return tmp_path


def test_a_large_image_is_loaded_and_evaluated_in_little_memory(folder):
    done = subprocess.run(
        [sys.executable, '-c', MEASURE, folder, str(SIDE)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loading, evaluation = map(float, done.stdout.split()[-2:])
    # The file's bytes, the decoded image and its planar copy; mmseg's own way takes 370 MB.
    assert IMAGE_MB < loading < 3.5 * IMAGE_MB
    # A chunk of indices and a copy of it; mmseg's own way takes 790 MB.
    assert evaluation < 250


@pytest.mark.parametrize(('backend', 'limit'), [('cv2', '2^30'), ('pillow', 'MAX_IMAGE_PIXELS')])
def test_a_header_that_tells_of_too_many_pixels_is_refused_by_name(tmp_path, backend, limit):
    path = tmp_path / 'bomb.png'
    path.write_bytes(claims_pixels(40_000))
    with pytest.raises(DataError) as raised:
        LoadImage(imdecode_backend=backend)({'img_path': str(path)})
    assert 'bomb.png' in str(raised.value) and limit in str(raised.value)
    with pytest.raises(DataError, match=r'bomb\.png: .*more pixels than OpenCV decodes'):
        read_image(str(path))

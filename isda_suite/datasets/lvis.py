"""LVIS: instances of many classes, of which only some are annotated in each image."""

from typing import Any, ClassVar

from isda_suite.registry import DATASETS

from .annotation_file import Json
from .coco_entries import read_entries
from .coco_file import read_coco
from .coco_instance import CocoInstanceDataset


@DATASETS.register_module()
class LVISInstanceDataset(CocoInstanceDataset):
    """Read LVIS v1, without the package ``lvis`` that mmdet's reader asks for.

    An image is named by the last two parts of its address (``coco_url``), the folder and the file:
    ``data_prefix`` is the folder that holds ``train2017`` and ``val2017``. Else as
    :class:`CocoInstanceDataset`; labels follow the ids of the categories. The metric,
    mmdet's ``LVISMetric``, does need the package.

    Source: Gupta et al., LVIS (arXiv:1908.03195).
    """

    #: Classes that are not annotated in an image are neither right nor wrong there.
    is_federated = True
    evaluators: ClassVar[dict[str, dict[str, Any]]] = {
        word: {'type': 'mmdet.LVISMetric', 'metric': word} for word in ('segm', 'bbox')
    }

    def _read(self, path: str) -> Json:
        return with_file_names(read_coco(path))

    def _read_entries(self, path: str) -> Json:
        return with_file_names(read_entries(path))


def is_lvis(content: Json) -> bool:
    """Tell by its images whether an annotation file is of LVIS."""
    images = content.get('images') or []
    return bool(images) and all('neg_category_ids' in image for image in images[:10])


def with_file_names(content: Json) -> Json:
    """Name the images of an annotation file after their addresses, in place; return it."""
    for image in content['images']:
        if isinstance(image, dict) and image.get('coco_url') and not image.get('file_name'):
            image['file_name'] = '/'.join(str(image['coco_url']).split('/')[-2:])
    return content

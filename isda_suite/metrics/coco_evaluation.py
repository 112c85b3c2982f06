"""COCO's evaluation as a function: annotations and detections in, precision and recall out."""

import contextlib
import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Json = dict[str, Any]
BACKENDS = ('auto', 'pycocotools', 'faster')
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_AREAS = ('all', 's', 'm', 'l')


@dataclass(frozen=True)
class Evaluation:
    """Precision and recall over everything.

    Axis letters: T IoU thresholds, R recall levels, K categories, A areas (all, small, medium,
    large), M detection limits. Cells without ground truth hold -1.

    Args:
        precision: (T, R, K, A, M).
        recall: (T, K, A, M).
        category_ids: (K,), ascending.
        max_dets: (M,), ascending.
        iou_thrs: (T,).
    """

    precision: Array
    recall: Array
    category_ids: tuple[int, ...]
    max_dets: tuple[int, ...]
    iou_thrs: Array


def backend_in_use(backend: str = 'auto') -> str:
    """Return the back-end a name stands for: ``'pycocotools'`` or ``'faster'``.

    Raises:
        ValueError: for an unknown name.
        ModuleNotFoundError: if faster-coco-eval is asked for and not installed.
    """
    if backend not in BACKENDS:
        raise ValueError(f'backend must be one of {", ".join(BACKENDS)}, got {backend!r}')
    installed = importlib.util.find_spec('faster_coco_eval') is not None
    if backend == 'faster' and not installed:
        raise ModuleNotFoundError(
            "backend='faster' needs faster-coco-eval: pip install faster-coco-eval, or use "
            "backend='pycocotools'"
        )
    return 'pycocotools' if backend == 'pycocotools' or not installed else 'faster'


def _classes_of(backend: str) -> tuple[Any, Any]:
    if backend == 'faster':
        from faster_coco_eval import COCO, COCOeval_faster

        return COCO, COCOeval_faster
    from pycocotools.coco import COCO as PycocotoolsCOCO
    from pycocotools.cocoeval import COCOeval

    return PycocotoolsCOCO, COCOeval


def load_ground_truth(content: Json, backend: str = 'auto') -> Any:
    """Index annotations for :func:`evaluate`.

    Args:
        content: A COCO json. Missing ``iscrowd``, ``area`` and ``bbox`` are computed in place; an
            annotation without a mask becomes an ignored region of its box.
        backend: See :func:`backend_in_use`.
    """
    sizes = {image['id']: (image['height'], image['width']) for image in content['images']}
    for annotation in content.setdefault('annotations', []):
        _complete(annotation, sizes.get(annotation.get('image_id')))
    api = _classes_of(backend_in_use(backend))[0]()
    api.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        api.createIndex()
    return api


def _complete(annotation: Json, size_hw: tuple[int, int] | None) -> None:
    annotation.setdefault('iscrowd', 0)
    if not annotation.get('segmentation') and annotation.get('bbox'):
        x, y, w, h = annotation['bbox']
        annotation['segmentation'] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        annotation['box_only'] = True
    complete = annotation.get('area') is not None and annotation.get('bbox') is not None
    if complete or size_hw is None:
        return
    from pycocotools import mask as coco_mask

    mask = annotation['segmentation']
    if isinstance(mask, list):
        mask = coco_mask.merge(coco_mask.frPyObjects(mask, *size_hw))
    elif isinstance(mask['counts'], list):
        mask = coco_mask.frPyObjects(mask, *size_hw)
    if annotation.get('area') is None:
        annotation['area'] = float(coco_mask.area(mask))
    if annotation.get('bbox') is None:
        annotation['bbox'] = [float(value) for value in coco_mask.toBbox(mask)]


def evaluate(
    ground_truth: Any,
    detections: list[Json],
    iou_type: str,
    image_ids: Sequence[int],
    category_ids: Sequence[int],
    max_dets: Sequence[int] = (1, 10, 100),
    iou_thrs: Sequence[float] | None = None,
) -> Evaluation:
    """Compare detections with the ground truth.

    Args:
        ground_truth: What :func:`load_ground_truth` gave; it decides the back-end.
        detections: COCO results: ``image_id``, ``category_id``, ``score`` and ``segmentation``
            (RLE) or ``bbox``; at least one. For masks leave ``bbox`` out, or areas come from it.
        iou_type: ``'segm'``, ``'bbox'``, or ``'proposal'`` (boxes of any class).
        image_ids: Images to evaluate.
        category_ids: Categories to evaluate.
        max_dets: Limits of detections an image and class.
        iou_thrs: IoU thresholds; ``None`` is COCO's 0.50:0.05:0.95.
    """
    backend = 'faster' if type(ground_truth).__module__.startswith('faster') else 'pycocotools'
    evaluator_class = _classes_of(backend)[1]
    quiet = io.StringIO()
    with contextlib.redirect_stdout(quiet), _masks_needed(ground_truth, iou_type):
        found = ground_truth.loadRes(detections)
        evaluator = evaluator_class(
            ground_truth, found, 'bbox' if iou_type == 'proposal' else iou_type
        )
        evaluator.params.imgIds = list(image_ids)
        evaluator.params.catIds = sorted(category_ids)
        evaluator.params.maxDets = sorted(max_dets)
        evaluator.params.useCats = int(iou_type != 'proposal')
        evaluator.params.iouThrs = np.asarray(IOU_THRESHOLDS if iou_thrs is None else iou_thrs)
        evaluator.evaluate()
        evaluator.accumulate()
    return Evaluation(
        precision=np.asarray(evaluator.eval['precision']),
        recall=np.asarray(evaluator.eval['recall']),
        category_ids=tuple(sorted(category_ids)),
        max_dets=tuple(sorted(max_dets)),
        iou_thrs=np.asarray(evaluator.params.iouThrs),
    )


@contextlib.contextmanager
def _masks_needed(ground_truth: Any, iou_type: str) -> Any:
    """Ignore box-only annotations while masks are evaluated."""
    box_only = [
        annotation
        for annotation in (ground_truth.dataset['annotations'] if iou_type == 'segm' else ())
        if annotation.get('box_only') and not annotation['iscrowd']
    ]
    for annotation in box_only:
        annotation['iscrowd'] = 1
    try:
        yield
    finally:
        for annotation in box_only:
            annotation['iscrowd'] = 0


def mean_of_known(values: Array) -> float:
    """Return the mean of all cells that have ground truth, nan if none has."""
    known = values[values > -1]
    return float(known.mean()) if known.size else float('nan')


def _at_iou(evaluation: Evaluation, threshold: float) -> Array:
    return evaluation.precision[np.isclose(evaluation.iou_thrs, threshold)]


def average_precisions(evaluation: Evaluation, category: int | None = None) -> dict[str, float]:
    """Return ``mAP, mAP_50, mAP_75, mAP_s, mAP_m, mAP_l`` in full precision.

    As in COCO's summary ``mAP`` is read at 100 detections and the others at the largest limit;
    with the usual limits (1, 10, 100) that is the same. Fields without ground truth are nan.

    Args:
        evaluation: What was measured.
        category: Position of one category; ``None`` averages over all.
    """
    which = slice(None) if category is None else slice(category, category + 1)
    limits = evaluation.max_dets
    at_100 = limits.index(100) if 100 in limits else len(limits) - 1
    precision = evaluation.precision
    values = {'mAP': mean_of_known(precision[:, :, which, 0, at_100])}
    for name, threshold in (('mAP_50', 0.5), ('mAP_75', 0.75)):
        values[name] = mean_of_known(_at_iou(evaluation, threshold)[:, :, which, 0, -1])
    for area in (1, 2, 3):
        values[f'mAP_{_AREAS[area]}'] = mean_of_known(precision[:, :, which, area, -1])
    return values


def average_recalls(evaluation: Evaluation) -> dict[str, float]:
    """Return ``AR@N`` for every limit and ``AR_s@N, AR_m@N, AR_l@N`` for the largest."""
    recall, limits = evaluation.recall, evaluation.max_dets
    values = {
        f'AR@{limit}': mean_of_known(recall[:, :, 0, index]) for index, limit in enumerate(limits)
    }
    for area in (1, 2, 3):
        values[f'AR_{_AREAS[area]}@{limits[-1]}'] = mean_of_known(recall[:, :, area, -1])
    return values

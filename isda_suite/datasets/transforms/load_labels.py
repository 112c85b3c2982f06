"""Load the label image of a sample, and refuse one that training would misread."""

from typing import Any

from mmseg.datasets.transforms import LoadAnnotations

from isda_suite.datasets.counted_warning import CountedWarning
from isda_suite.datasets.errors import DataError
from isda_suite.datasets.label_file import LabelRule, check_label_size, class_ids, decode_label
from isda_suite.registry import TRANSFORMS

from .load_image import read_file


@TRANSFORMS.register_module()
class LoadSegLabels(LoadAnnotations):
    """Load class ids (or the colours of raw masks) and check them before anything uses them.

    The data sets of isda_suite say in each sample what their label files may hold. For others,
    such as mmseg's own, the arguments do.

    Args:
        num_classes: Number of classes, for samples that do not tell.
        ignore_index: Value of pixels without a class, for samples that do not tell.
        backend_args: Arguments of mmengine's file client.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        ignore_index: int = 255,
        backend_args: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(backend_args=backend_args)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self._unknown = CountedWarning()

    def _load_seg_map(self, results: dict[str, Any]) -> None:
        """Add ``gt_seg_map``, (H, W) uint8 class ids.

        Raises:
            DataError: if the label is not named, missing, broken, of another size than the image
                (``ori_shape``), has several channels where ids are expected, or holds values
                outside the classes.
        """
        path = _label_path(results)
        rule = self._rule(results)
        content = read_file(path, self.backend_args)
        label = decode_label(content, path, raw=rule.colours is not None)
        if 'ori_shape' in results:
            check_label_size(path, label.shape[:2], str(results['img_path']), results['ori_shape'])
        results['gt_seg_map'], unknown = class_ids(label, path, rule)
        results.setdefault('seg_fields', []).append('gt_seg_map')
        if unknown:
            self._unknown.note(
                f'{path}: {unknown} pixels have a colour of no class: read as class '
                f'{rule.unknown_id}'
            )

    def _rule(self, results: dict[str, Any]) -> LabelRule:
        told = results.get('label_rule')
        if told is not None:
            return told
        if self.num_classes is None:
            raise DataError(
                f'{results["seg_map_path"]}: the data set does not say how many classes there '
                'are: set num_classes of LoadSegLabels, or use isda_suite.SemanticDataset'
            )
        return LabelRule(
            num_classes=self.num_classes,
            ignore_index=self.ignore_index,
            label_map=results.get('label_map'),
            reduce_zero_label=bool(results.get('reduce_zero_label')),
        )

    def __repr__(self) -> str:
        """Return the arguments, as mmcv's transforms do."""
        return (
            f'{type(self).__name__}(num_classes={self.num_classes}, '
            f'ignore_index={self.ignore_index}, backend_args={self.backend_args})'
        )


def _label_path(results: dict[str, Any]) -> str:
    path = results.get('seg_map_path')
    if path is None:
        raise DataError(
            f'{results.get("img_path")}: the data set names no label image for it: add '
            'seg_map_path to its data_prefix'
        )
    return str(path)

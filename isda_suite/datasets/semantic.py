"""Images with a label image each: ids of classes, or masks that show classes as colours."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmseg.datasets import BaseSegDataset

from isda_suite.registry import DATASETS

from .bad_images import BadImages
from .errors import DataError
from .label_file import LabelRule
from .segmentation_files import nothing_left

_SPLITS = Path(__file__).parent / 'splits'


@DATASETS.register_module()
class SemanticDataset(BaseSegDataset):
    """Read a folder of images and one of label images, or both through a list of names.

    Different from mmseg's reader:

    * Each sample says what its label image may hold (``label_rule``), for ``LoadSegLabels``.
    * Masks may show the classes as colours; the colours are those of the palette.
    * Nothing left to read is an error that says what the folder holds instead; empty lines of a
      list are left out.

    Args:
        raw_masks: Whether label images show classes as colours of the palette. ``None``: they hold
            class ids, and where the palette is black and white a file of 0 and 255 alone is
            refused, for 255 would be ignored. ``False`` takes such a file as it is.
        split: ``'train'``, ``'val'`` or ``'test'``: the published list of a data set that has one,
            in place of ``ann_file``.
        bad_images: What training does with an image or label that cannot be read: ``'stop'``, or
            ``'skip'`` it, which is counted and stops above 0.1 %. Tests always stop.
        allow_outside: Whether a list may name files out of ``data_root``.
        **kwargs: Arguments of mmseg's ``BaseSegDataset``.

    Raises:
        DataError: if no image is left, or a class of the config is none of the data set's.
        ValueError: if ``split`` is not published or ``ann_file`` is given too, or raw masks have no
            palette.
    """

    #: What ``--eval`` can be, and the metric that answers.
    evaluators: ClassVar[dict[str, dict[str, Any]]] = {
        word: {'type': 'isda_suite.IoUMetric', 'iou_metrics': [word]}
        for word in ('mIoU', 'mDice', 'mFscore')
    }
    #: First part of the names of published lists, in ``splits/``.
    split_name: ClassVar[str | None] = None
    #: Id of colours that no class has, in raw masks; ``None`` makes them an error.
    unknown_id: ClassVar[int | None] = None

    def __init__(
        self,
        *,
        raw_masks: bool | None = None,
        split: str | None = None,
        bad_images: str = 'stop',
        allow_outside: bool = False,
        **kwargs: Any,
    ) -> None:
        if split is not None:
            if kwargs.get('ann_file'):
                raise ValueError(f'split={split!r} and ann_file exclude each other')
            kwargs['ann_file'] = str(self._published_list(split))
        if raw_masks and not {**self.METAINFO, **(kwargs.get('metainfo') or {})}.get('palette'):
            raise ValueError('raw_masks=True needs the colours: metainfo=dict(palette=[…])')
        self.raw_masks = raw_masks
        self.bad_images = BadImages(bad_images)
        self.allow_outside = allow_outside
        super().__init__(**kwargs)

    @classmethod
    def _published_list(cls, split: str) -> Path:
        path = _SPLITS / f'{cls.split_name}_{split}.txt'
        if path.is_file():
            return path
        known = [one.stem.rpartition('_')[2] for one in sorted(_SPLITS.glob(f'{cls.split_name}_*'))]
        raise ValueError(
            f'{cls.__name__} has no published split {split!r}, '
            + (f'only {", ".join(known)}' if known else 'nor any other: name a list as ann_file')
        )

    @classmethod
    def get_label_map(cls, new_classes: Sequence[str] | None = None) -> dict[int, int] | None:
        """Map the data set's ids to those of the config's classes, by name.

        Raises:
            DataError: if the data set has no class of that name.
        """
        known = list(cls.METAINFO.get('classes') or ())
        for name in new_classes or ():
            if known and name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f', nearest: {near[0]}' if near else ''
                raise DataError(
                    f'class {name!r} of the config is none of {cls.__name__}{hint}; it has '
                    f'{", ".join(known)}'
                )
        return super().get_label_map(new_classes)

    @property
    def label_rule(self) -> LabelRule:
        """What the label images may hold.

        Raises:
            DataError: if there are no classes, or no palette for raw masks.
        """
        classes = self._metainfo.get('classes')
        if not classes:
            raise DataError(f'{type(self).__name__} needs metainfo=dict(classes=(…))')
        colours = tuple(map(tuple, self.METAINFO.get('palette') or self._metainfo['palette']))
        black_and_white = set(colours) == {(0, 0, 0), (255, 255, 255)}
        return LabelRule(
            num_classes=len(classes),
            ignore_index=self.ignore_index,
            label_map=self.label_map,
            reduce_zero_label=self.reduce_zero_label,
            colours=colours if self.raw_masks else None,
            unknown_id=self.unknown_id,
            refuse_white=self.raw_masks is None and black_and_white,
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the samples, each with the rule for its label image."""
        rule = self.label_rule
        return [
            {**record, 'label_rule': rule}
            for record in super().load_data_list()
            # An empty line of a list is no name.
            if Path(record['img_path']).name != self.img_suffix or not self.ann_file
        ]

    def filter_data(self) -> list[dict[str, Any]]:
        """Keep all samples.

        Raises:
            DataError: if there is none.
        """
        if not self.data_list:
            raise DataError(nothing_left(self))
        return self.data_list

    def prepare_data(self, idx: int) -> Any:
        """Run the pipeline on an image; None asks for another one."""
        return self.bad_images.load(super().prepare_data, idx, len(self), self.test_mode)

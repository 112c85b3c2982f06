"""How strongly queries answer, over any number of pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from isda_suite.layers.query_adapter import QueryAdapter, QueryRecord

from .recorded_images import RecordedImage, responses_to

_BINS = 4096


class ResponseStatistics:
    """Mean, strongest hundredth and share above 0.5 of responses that come in pieces.

    The mean and the share are exact. The strongest hundredth is exact but for the last of its 4096
    intervals, of which the mean is taken.
    """

    def __init__(self) -> None:
        self._counts = torch.zeros(_BINS, dtype=torch.int64)
        self._sums = torch.zeros(_BINS, dtype=torch.float64)
        self._above = 0

    def add(self, responses: Tensor) -> None:
        """Add responses of any shape, 0..1; NaN is left out."""
        values = responses.detach().flatten().cpu().double()
        values = values[~values.isnan()]
        bins = (values * _BINS).long().clamp(0, _BINS - 1)
        self._counts += torch.bincount(bins, minlength=_BINS)
        self._sums += torch.bincount(bins, values, minlength=_BINS)
        self._above += int((values > 0.5).sum())

    def result(self) -> dict[str, float | int | None]:
        """Return ``mean``, ``top_1_percent``, ``share_above_half`` and ``pixels``."""
        total = int(self._counts.sum())
        if total == 0:
            return dict(mean=None, top_1_percent=None, share_above_half=None, pixels=0)
        return dict(
            mean=round(float(self._sums.sum()) / total, 6),
            top_1_percent=round(self._strongest(-(-total // 100)), 6),
            share_above_half=round(self._above / total, 6),
            pixels=total,
        )

    def _strongest(self, wanted: int) -> float:
        """Return the mean of the ``wanted`` largest responses."""
        counts, sums = self._counts.flip(0), self._sums.flip(0)
        before = counts.cumsum(0) - counts
        taken = (wanted - before).clamp(min=0).minimum(counts)
        return float((sums * taken / counts.clamp(min=1)).sum()) / wanted


def measure(adapter: QueryAdapter, images: Sequence[RecordedImage]) -> dict[str, object]:
    """Measure how the queries of each image answer there and on all other images.

    Args:
        adapter: Of the head.
        images: Records of one model.

    Returns:
        ``queries``, their number, and statistics of ``own_instance`` (pixels of the query's
        instance), ``own_rest`` (other pixels of its image), ``foreign`` (all pixels of other
        images) and ``foreign_instances`` (pixels of instances there, as a memory stores them).
    """
    places = [(image, image.record) for image in images]
    return {'queries': sum(len(record.queries) for _, record in places)} | measure_records(
        adapter, places, images
    )


def measure_records(
    adapter: QueryAdapter,
    asking: Sequence[tuple[RecordedImage, QueryRecord]],
    images: Sequence[RecordedImage],
) -> dict[str, object]:
    """Measure chosen queries, see :func:`measure`.

    Args:
        adapter: Of the head.
        asking: Images and queries of them.
        images: All images.
    """
    names = ('own_instance', 'own_rest', 'foreign', 'foreign_instances')
    found = {name: ResponseStatistics() for name in names}
    for own, record in asking:
        if len(record.queries) == 0:
            continue
        for image in images:
            p = responses_to(adapter, record, image)
            size_hw = (p.shape[-2], p.shape[-1])
            content = image.content(size_hw).expand_as(p)
            if image.index == own.index:
                inside = image.inside(record.gt_inds, size_hw)
                found['own_instance'].add(p[inside & content])
                found['own_rest'].add(p[~inside & content])
                continue
            found['foreign'].add(p[content])
            if image.rows is not None:
                with torch.no_grad():
                    rows = image.rows[: adapter.max_rows]
                    found['foreign_instances'].add(adapter.respond(record.queries, rows).sigmoid())
    return {name: statistics.result() for name, statistics in found.items()}

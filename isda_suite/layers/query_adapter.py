"""How a training framework talks to a query-based segmenter that knows nothing of it.

An adapter says, for one family of heads, which queries took part in the loss, how a query answers
to a pixel, and how the head itself judges masks. The framework (``methods/iuq``) works with nothing
else, so it trains any head that has an adapter; the adapters of our own methods live in their
rooms.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from mmengine.registry import Registry
from torch import Tensor, nn

from isda_suite.registry import SCOPE

from .box_pasting import pasted_in_boxes
from .errors import ModelConfigError
from .query_recording import (
    Call,
    QueryRecord,
    Taps,
    detached,
    finest,
    recording,
    runs_methods_of,
)

# Whoever writes an adapter imports from here.
__all__ = [
    'FOUR_METHODS',
    'QUERY_ADAPTERS',
    'Call',
    'DotProductAdapter',
    'QueryAdapter',
    'QueryRecord',
    'Taps',
    'answers_by_dot_product',
    'detached',
    'find_adapter',
    'finest',
    'recording',
    'runs_methods_of',
]
QUERY_ADAPTERS = Registry('query adapter', scope=SCOPE, locations=['isda_suite.methods'])
FOUR_METHODS = ('record', 'respond', 'respond_map', 'mask_loss')
# Where mmdet's detectors keep a head that has queries.
_PLACES = ('', 'mask_head', 'panoptic_head', 'bbox_head', 'roi_head', 'decoder')


class QueryAdapter(ABC):
    """The four methods a head needs so that a framework can train its queries.

    ``record`` watches a training pass, ``respond`` answers to stored pixels, ``respond_map`` to a
    whole map, ``mask_loss`` is the head's own loss of masks. Heads whose answer is a dot product
    get ``respond`` and ``respond_map`` from :class:`DotProductAdapter`.

    Attributes:
        heads: Names of the classes of heads (or detectors) this adapter is for; sub-classes of
            them count too. Names, so that nothing has to be imported.
        row_pixels: Pixels that one stored row stands for.
        max_rows: Rows that ``respond`` takes at most, for heads to which a row is much work.
        max_stride: Largest stride of the maps that are transformed; windows keep to multiples.
        per_query: Names in the context of a record that hold one entry a query.

    Args:
        head: The head that was found in the detector, or the detector itself.
    """

    heads: tuple[str, ...] = ()
    row_pixels: int = 1
    max_rows: int | None = None
    max_stride: int = 32
    per_query: tuple[str, ...] = ('targets',)

    def __init__(self, head: Any) -> None:
        self.head = head

    @abstractmethod
    def record(
        self, detector: nn.Module, samples: Sequence[Any]
    ) -> AbstractContextManager[list[QueryRecord]]:
        """Watch what ``detector.loss`` does inside the block.

        Args:
            detector: Unmodified; whatever is put on it is taken off at the end of the block.
            samples: The B data samples of the pass.

        Returns:
            A context that gives a list; after the block it holds B records.
        """

    @abstractmethod
    def respond(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Let every query answer to every stored row.

        Args:
            queries: (N, Q).
            rows: (P, D), as :meth:`embed` makes them.

        Returns:
            (N, P) logits, or (N, P, ...) where a row stands for many pixels.
        """

    @abstractmethod
    def respond_map(self, record: QueryRecord, pixels: Any) -> Tensor:
        """Let the queries of a record answer to a map.

        Args:
            record: The queries and their context.
            pixels: As ``record.pixels``; of this or of another pass.

        Returns:
            (N, h', w') logits, in the form that :meth:`mask_loss` takes.
        """

    @abstractmethod
    def mask_loss(self, records: list[QueryRecord], logits: list[Tensor]) -> Tensor:
        """Judge masks as the head does in training, its weight and normaliser included.

        Args:
            records: B records; their targets are those of the pass that was recorded.
            logits: B results of :meth:`respond_map`.

        Returns:
            A scalar that is connected to all logits, also without any query.
        """

    def leave_out(self, detector: nn.Module, taps: Taps) -> None:  # noqa: B027 - optional
        """Take out of a training pass what neither queries nor their assignment need.

        By default nothing is left out.

        Args:
            detector: As :meth:`record` has it.
            taps: :meth:`Taps.replace` of it puts stand-ins in the place of losses, of the classes'
                layers, of the map, of the matching of earlier stages. What is watched has to be
                called still.
        """

    def record_queries(
        self, detector: nn.Module, inputs: Tensor, samples: Sequence[Any]
    ) -> list[QueryRecord]:
        """Run a training pass for its queries and their assignment alone.

        Args:
            detector: As :meth:`record` has it.
            inputs: (B, 3, H, W), normalised and padded.
            samples: The B data samples.

        Returns:
            B records as those of a whole pass, but without ``pixels``.
        """
        with self.record(detector, samples) as records, Taps() as taps:
            self.leave_out(detector, taps)
            detector.loss(inputs, samples)  # type: ignore[operator]
        return [replace(record, pixels=()) for record in records]

    @property
    def mask_loss_weight(self) -> float:
        """Weight of the head's mask loss, for terms that should be of its size."""
        return 1.0

    def embed(self, record: QueryRecord, gt_inds: Tensor, cells: Tensor) -> Tensor:
        """Make the rows to be stored.

        Args:
            record: Of the image.
            gt_inds: (P,) the instance each pixel belongs to.
            cells: (P,) row-major indices into the pixel map.

        Returns:
            (P, D).
        """
        return finest(record.pixels).flatten(1)[:, cells].T

    def rows_of(self, record: QueryRecord) -> tuple[Tensor, Tensor] | None:
        """Give ready rows (P, D) and their instances (P,) for heads without a map of pixels."""
        return None

    def select(self, record: QueryRecord, chosen: Tensor) -> QueryRecord:
        """Keep some queries of a record, to look at; :meth:`mask_loss` wants whole records.

        Args:
            record: N queries.
            chosen: (n,) indices.
        """
        own = {
            name: record.context[name][chosen] for name in self.per_query if name in record.context
        }
        return replace(
            record,
            queries=record.queries[chosen],
            gt_inds=record.gt_inds[chosen],
            context={**record.context, **own},
        )

    def boxes_of(self, record: QueryRecord, canvas_hw: tuple[int, int]) -> Tensor | None:
        """Give the boxes (N, 4), xyxy in pixels of the canvas, that answers to a map fill.

        Args:
            record: N queries.
            canvas_hw: Size of the padded image that was asked.

        Returns:
            ``None`` for heads whose answers are maps of the whole canvas.
        """
        return None

    def on_canvas(
        self, record: QueryRecord, logits: Tensor, canvas_hw: tuple[int, int], stride: int = 4
    ) -> Tensor:
        """Turn answers to a map into responses all over the image, to look at.

        Args:
            record: N queries.
            logits: Their answers, from :meth:`respond_map`.
            canvas_hw: Size of the padded image that was asked.
            stride: Pixels of the canvas per cell of the result, where answers have to be pasted.

        Returns:
            (N, h, w) in 0..1; NaN where a query was not asked.
        """
        boxes = self.boxes_of(record, canvas_hw)
        if boxes is None:
            return logits.float().sigmoid()
        size_hw = (canvas_hw[0] // stride, canvas_hw[1] // stride)
        return pasted_in_boxes(logits.float().sigmoid(), boxes.float() / stride, size_hw)


class DotProductAdapter(QueryAdapter):
    """The answer of a query to a pixel is their dot product."""

    def respond(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Compute (N, P) dot products, see :meth:`QueryAdapter.respond`."""
        return queries @ rows.T

    def respond_map(self, record: QueryRecord, pixels: Tensor) -> Tensor:
        """Compute (N, h, w) dot products."""
        return (record.queries @ pixels.flatten(1)).view(-1, *pixels.shape[-2:])


def answers_by_dot_product(respond: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """Tell whether an adapter's ``respond`` is :meth:`DotProductAdapter.respond` itself.

    Then the gradient of queries is known without a graph.
    """
    return getattr(respond, '__func__', None) is DotProductAdapter.respond


def find_adapter(detector: nn.Module, adapter: str | dict[str, Any] = 'auto') -> QueryAdapter:
    """Choose and build the adapter of a detector.

    Args:
        detector: The detector.
        adapter: ``'auto'`` goes by the class of the head; else the name or config of a registered
            adapter.

    Returns:
        The adapter of the head.

    Raises:
        ModelConfigError: if no adapter is known for the head, with those that are.
    """
    known = _known_adapters()
    if adapter != 'auto':
        options = dict(type=adapter) if isinstance(adapter, str) else dict(adapter)
        name = str(options.pop('type', None)).rpartition('.')[2]
        if name not in known:
            raise ModelConfigError(_unknown(f'adapter {name!r} does not exist', known))
        head = next((h for h in _candidates(detector) if _distance(h, known[name])), None)
        return known[name](head or detector, **options)
    places = [(_distance(head, kind), head, kind) for head, kind in _pairs(detector, known)]
    found = min((place for place in places if place[0]), key=lambda place: place[0], default=None)
    if found is None:
        heads = ', '.join(type(head).__name__ for head in _candidates(detector))
        raise ModelConfigError(_unknown(f'no adapter fits any of {heads}', known))
    return found[2](found[1])


def _known_adapters() -> dict[str, Callable[..., QueryAdapter]]:
    QUERY_ADAPTERS.import_from_location()
    return dict(QUERY_ADAPTERS.module_dict)


def _pairs(
    detector: nn.Module, known: dict[str, Callable[..., QueryAdapter]]
) -> list[tuple[nn.Module, Callable[..., QueryAdapter]]]:
    return [(head, kind) for head in _candidates(detector) for kind in known.values()]


def _candidates(detector: nn.Module) -> list[nn.Module]:
    parts = [getattr(detector, place, None) if place else detector for place in _PLACES]
    return [part for part in parts if isinstance(part, nn.Module)]


def _distance(head: nn.Module, kind: Any) -> int:
    """Return 1 for the class itself, 2 for its sub-classes and so on, 0 for others."""
    names = [base.__name__ for base in type(head).__mro__]
    return min((names.index(name) + 1 for name in kind.heads if name in names), default=0)


def _unknown(what: str, known: dict[str, Any]) -> str:
    table = '; '.join(f'{name}: {", ".join(kind.heads)}' for name, kind in sorted(known.items()))
    return (
        f'adapter: {what}. Registered adapters and their heads: {table}. For a head of your own '
        'sub-class isda_suite.layers.query_adapter.QueryAdapter, register it in QUERY_ADAPTERS and '
        f'write the methods {", ".join(FOUR_METHODS)} (a dot-product head needs record and '
        'mask_loss only)'
    )

"""Uniqueness against the memory of pixels: the paper's form."""

import zlib
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.mask_coverage import bitmap_of, coverage_of
from isda_suite.layers.query_adapter import QueryAdapter, QueryRecord, finest
from isda_suite.registry import MODELS, TASK_UTILS

from .curves import SEEN_QUERIES, SEEN_ROWS, response_curves
from .instance_pixels import choose_background, choose_pixels
from .memory import PixelMemory, StoredRows
from .step import Step
from .uniqueness import UniquenessLoss, spread_queries


@TASK_UTILS.register_module()
class PixelUniqueness:
    """Let the queries of a batch meet stored pixels, then store its own.

    Args:
        memory: Config of the memory, see :class:`.memory.PixelMemory`.
        loss: Config of the loss, see :class:`.uniqueness.UniquenessLoss`.
        row_pixels: Pixels that a row of the adapter stands for.
        max_rows: Rows that the adapter takes at most in a step.

    Raises:
        ModelConfigError: for ``memory.background`` where rows are regions of instances.

    Source: IUQ (arXiv:2210.00911), inter-image uniqueness with an external memory.
    """

    def __init__(
        self,
        memory: Mapping[str, Any],
        loss: Mapping[str, Any],
        row_pixels: int = 1,
        max_rows: int | None = None,
    ) -> None:
        self.memory: PixelMemory = TASK_UTILS.build({'type': 'isda_suite.PixelMemory', **memory})
        if row_pixels > 1 and self.memory.background:
            raise ModelConfigError(
                f'memory.background: expected 0, got {self.memory.background}: of this head the '
                'memory stores regions of instances, and background is none'
            )
        if row_pixels > 1:
            self.memory.capacity = max(self.memory.capacity // row_pixels, 1)
            self.memory.min_fill = self.memory.min_fill // row_pixels
        if max_rows is not None:
            self.memory.rows_per_step = max_rows
        self.loss: UniquenessLoss = MODELS.build({'type': 'isda_suite.UniquenessLoss', **loss})

    def __call__(self, step: Step) -> dict[str, Any]:
        """Compute ``loss_unique`` and, for the log, what the memory holds and is answered.

        Args:
            step: After the base loss.

        Returns:
            ``loss_unique``, ``iuq/mem_size``, and with rows and queries ``iuq/p_mean`` and
            ``iuq/p_top1pct``: the mean response to pixels of other images, and that of the
            strongest hundredth.
        """
        stored = self.memory.read()
        size = step.inputs.new_tensor(float(len(self.memory)))
        ids = self.image_ids(step)
        found: dict[str, Any] = {'loss_unique': step.silence, 'iuq/mem_size': size}
        num_queries = 0
        if stored is not None:
            total = step.silence
            for index, record in enumerate(step.records):
                chosen = spread_queries(record.gt_inds, self.loss.max_queries)
                num_queries += len(chosen)
                if len(chosen):
                    total = total + self._of_image(step, index, chosen, ids[index], stored)
            factor = self.loss.loss_weight
            if self.loss.scale_by_mask_loss:
                factor *= step.adapter.mask_loss_weight
            found['loss_unique'] = factor * total / max(num_queries, 1)
            found.update(self._statistics(step, ids, stored))
        self._store(step, ids)
        return found

    def _of_image(
        self,
        step: Step,
        index: int,
        chosen: Tensor,
        image_id: int,
        stored: StoredRows,
    ) -> Tensor:
        """Sum the losses of the chosen queries of one image."""
        allowed = stored.image_ids != image_id
        record = step.records[index]
        if self.loss.same_class != 'include':
            labels = step.samples[index].gt_instances.labels[record.gt_inds[chosen]]
            alike = labels[:, None] == stored.labels
            allowed = allowed & (alike if self.loss.same_class == 'only' else ~alike)
        queries = record.queries[chosen]
        if self.loss.detach:
            queries = queries.detach()
        return self.loss.on_rows(queries, stored.rows, allowed, step.adapter.respond)

    @torch.no_grad()
    def _statistics(self, step: Step, ids: list[int], stored: StoredRows) -> dict[str, Tensor]:
        """Measure the responses of a few queries to a few rows of other images."""
        every = max(len(stored) // SEEN_ROWS, 1)
        seen = []
        for record, image_id in zip(step.records, ids, strict=True):
            rows = stored.rows[::every][stored.image_ids[::every] != image_id].float()
            few = spread_queries(record.gt_inds, max(SEEN_QUERIES // len(ids), 1))
            if len(few) and len(rows):
                seen.append(step.adapter.respond(record.queries[few].float(), rows))
        return response_curves(seen)

    @torch.no_grad()
    def _store(self, step: Step, ids: list[int]) -> None:
        """Write the pixels of the batch, instance by instance."""
        rows, about = [], []
        for record, sample, image_id in zip(step.records, step.samples, ids, strict=True):
            embedded = self._rows_of(step, record, sample)
            if embedded is None:
                continue
            one, gt_inds = embedded
            labels = sample.gt_instances.labels[gt_inds].where(gt_inds >= 0, gt_inds)
            rows.append(one)
            about.append(torch.stack([torch.full_like(labels, image_id), labels, gt_inds], dim=1))
        if rows:
            self.memory.push(torch.cat(rows), torch.cat(about))
        else:  # other ranks may have some, and all take part in the exchange
            self._push_nothing(step)

    def _push_nothing(self, step: Step) -> None:
        width = 0 if self.memory.bank is None else self.memory.bank.shape[1]
        self.memory.push(step.inputs.new_zeros((0, width)), step.inputs.new_zeros((0, 3)).long())

    def _rows_of(
        self, step: Step, record: QueryRecord, sample: Any
    ) -> tuple[Tensor, Tensor] | None:
        """Embed the chosen pixels of one image; ``None`` without instances.

        Instances are -1 for background.
        """
        memory, instances = self.memory, sample.gt_instances
        found = rows_of_instances(
            step.adapter, record, instances, step.canvas_hw, memory.per_instance, memory.sampling
        )
        if found is None or not memory.background:
            return found
        rows, gt_inds = found
        more = self._background_of(step, record, sample)
        return torch.cat([rows, more]), F.pad(gt_inds, (0, len(more)), value=-1)

    def _background_of(self, step: Step, record: QueryRecord, sample: Any) -> Tensor:
        """Embed background of one image; heads that look from an instance get a random one."""
        coverage = _coverage_of(record, sample.gt_instances, step.canvas_hw)
        sides = zip(
            sample.metainfo['img_shape'][:2], coverage.shape[1:], step.canvas_hw, strict=True
        )
        image_hw = [side * cells // whole for side, cells, whole in sides]
        cells = choose_background(coverage, (image_hw[0], image_hw[1]), self.memory.background)
        return step.adapter.embed(record, torch.randint_like(cells, len(coverage)), cells)

    def image_ids(self, step: Step) -> list[int]:
        """Return a number for every image of the batch; a new one where it has no id."""
        return [
            self.memory.fresh_id()
            if self.memory.fresh_ids or sample.metainfo.get('img_id') is None
            else _number_of(sample.metainfo['img_id'])
            for sample in step.samples
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return the memory."""
        return self.memory.state_dict()

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take up a memory, on the device of the model."""
        self.memory.load_state_dict(state, device)


def _number_of(image_id: Any) -> int:
    """Return an id as a number; names become a checksum above all usual numbers."""
    if isinstance(image_id, str) and not image_id.isdigit():
        return (1 << 32) + zlib.crc32(image_id.encode())
    return int(image_id)


def rows_of_instances(
    adapter: QueryAdapter,
    record: QueryRecord,
    instances: Any,
    canvas_hw: tuple[int, int],
    per_instance: int = 50,
    sampling: str = 'pad',
) -> tuple[Tensor, Tensor] | None:
    """Embed the chosen pixels of the instances of one image, as the memory stores them.

    Args:
        adapter: Of the head.
        record: Of the image.
        instances: Its ``gt_instances`` with ``masks``.
        canvas_hw: Size of the padded batch.
        per_instance: As for :class:`.memory.PixelMemory`.
        sampling: As for :class:`.memory.PixelMemory`.

    Returns:
        Rows (P, D) and the instance (P,) of each; ``None`` without instances.
    """
    if len(instances) == 0:
        return None
    ready = adapter.rows_of(record)
    if ready is not None:
        return ready
    coverage = _coverage_of(record, instances, canvas_hw)
    gt_inds, cells = choose_pixels(coverage, per_instance, sampling)
    return adapter.embed(record, gt_inds, cells), gt_inds


def _coverage_of(record: QueryRecord, instances: Any, canvas_hw: tuple[int, int]) -> Tensor:
    pixels = finest(record.pixels)
    masks = bitmap_of(instances.masks, canvas_hw, pixels.device)
    return coverage_of(masks, (pixels.shape[-2], pixels.shape[-1]))

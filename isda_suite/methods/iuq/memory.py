"""The external memory: pixels of instances of past images, first in first out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dist import all_gather, get_world_size
from torch import Tensor

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.option_checks import require_at_least, require_one_of
from isda_suite.registry import TASK_UTILS

from .instance_pixels import SAMPLINGS

DTYPES = {'float16': torch.float16, 'bfloat16': torch.bfloat16, 'float32': torch.float32}


@dataclass
class StoredRows:
    """Rows of the memory with what is known of them.

    Attributes:
        rows: (P, D) pixel embeddings, a view of the bank: never change them.
        image_ids: (P,) int64.
        labels: (P,) int64 class of the instance.
        instance_ids: (P,) int64 number of the instance in its image.
    """

    rows: Tensor
    image_ids: Tensor
    labels: Tensor
    instance_ids: Tensor

    def __len__(self) -> int:
        """Return P."""
        return len(self.rows)


@TASK_UTILS.register_module()
class PixelMemory:
    """A ring of pixel embeddings, each with image, class and instance.

    It is no module: it has no part in the weights, and training alone uses it. At 100 000 rows of
    256 numbers it takes 51 MB in float16.

    Args:
        capacity: Pixels to hold; heads whose rows stand for many pixels hold fewer rows.
        per_instance: Pixels that are stored of an instance.
        sampling: How they are chosen: ``'pad'``, ``'cap'``, ``'per_image'`` or ``'dense'``, see
            :func:`.instance_pixels.choose_pixels`.
        background: Pixels of an image with instances that are stored beside, from where no
            instance is; their label and instance are -1. None in the paper, as an ablation here.
        dtype: Type of storage: ``'float16'``, ``'bfloat16'`` or ``'float32'``.
        rows_per_step: Rows that are read in a step, evenly from old to new; ``None`` reads all.
        min_fill: Below this number of pixels nothing is read.
        gather: Store the pixels of all ranks on every rank. Without it ranks differ, and only the
            first one's memory is in a checkpoint.
        fresh_ids: Give every image an id of its own, for pipelines that mix images (mosaic,
            copy and paste), whose ``img_id`` says only half of what they show.

    Raises:
        ModelConfigError: for an unknown ``sampling`` or ``dtype``, or sizes that make no sense.

    Source: IUQ (arXiv:2210.00911), external memory with sparse, instance-balanced sampling.
    """

    def __init__(
        self,
        capacity: int = 100_000,
        per_instance: int = 50,
        sampling: str = 'pad',
        background: int = 0,
        dtype: str = 'float16',
        rows_per_step: int | None = 16_384,
        min_fill: int = 1000,
        gather: bool = True,
        fresh_ids: bool = False,
    ) -> None:
        for name, value, known in (
            ('sampling', sampling, SAMPLINGS),
            ('dtype', dtype, tuple(DTYPES)),
        ):
            require_one_of(f'memory.{name}', value, known)
        for name, number in (('capacity', capacity), ('per_instance', per_instance)):
            if number < 1:
                raise ModelConfigError(f'memory.{name}: expected at least 1, got {number}')
        require_at_least('memory.background', background, 0)
        self.capacity = capacity
        self.per_instance = per_instance
        self.sampling = sampling
        self.background = background
        self.dtype = DTYPES[dtype]
        self.rows_per_step = rows_per_step
        self.min_fill = min_fill
        self.gather = gather
        self.fresh_ids = fresh_ids
        self.bank: Tensor | None = None
        self.about: Tensor | None = None  # (capacity, 3): image, label, instance
        self.pointer = 0
        self.count = 0
        self.last_fresh_id = 0

    def __len__(self) -> int:
        """Return the number of rows that are stored."""
        return self.count

    def fresh_id(self) -> int:
        """Return an image id that no data set gives."""
        self.last_fresh_id -= 1
        return self.last_fresh_id

    @torch.no_grad()
    def push(self, rows: Tensor, about: Tensor) -> None:
        """Store pixels in the place of the oldest ones.

        Args:
            rows: (P, D); a random subset is stored where P is more than the capacity.
            about: (P, 3) int64: image id, label, number of the instance in its image.
        """
        # float16 ends at 65504, and an infinite entry would make every response NaN.
        limit = torch.finfo(self.dtype).max
        rows = rows.detach().clamp(-limit, limit).to(self.dtype)
        if self.gather and get_world_size() > 1:
            rows, about = _gather_rows(rows, about)
        if len(rows) == 0:
            return
        if len(rows) > self.capacity:
            chosen = torch.randperm(len(rows), device=rows.device)[: self.capacity]
            rows, about = rows[chosen], about[chosen]
        bank, labels = self._allocate(rows)
        first = min(len(rows), self.capacity - self.pointer)
        for source, target in ((rows, bank), (about, labels)):
            target[self.pointer : self.pointer + first] = source[:first]
            target[: len(source) - first] = source[first:]
        self.pointer = (self.pointer + len(rows)) % self.capacity
        self.count = min(self.count + len(rows), self.capacity)

    def read(self) -> StoredRows | None:
        """Return rows without copying them, or ``None`` below ``min_fill``.

        ``rows_per_step`` of them are every n-th one from a random start: as stored pixels of an
        instance lie side by side, this takes about equally many of all instances, and a view is
        enough.
        """
        if self.bank is None or self.about is None or self.count < max(self.min_fill, 1):
            return None
        step = -(-self.count // (self.rows_per_step or self.count))
        start = int(torch.randint(step, ())) if step > 1 else 0
        about = self.about[start : self.count : step]
        return StoredRows(self.bank[start : self.count : step], *about.unbind(1))

    def state_dict(self) -> dict[str, Any]:
        """Return what a run that is resumed needs to go on the same way."""
        held = {
            name: None if tensor is None else tensor[: self.count].cpu()
            for name, tensor in (('bank', self.bank), ('about', self.about))
        }
        return {**held, 'pointer': self.pointer, 'last_fresh_id': self.last_fresh_id}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device | str = 'cpu') -> None:
        """Take up a state.

        Args:
            state: From :meth:`state_dict` of a memory of the same capacity.
            device: Where the rows shall live.

        Raises:
            ModelConfigError: if it holds more rows than fit, or a full ring of another size.
        """
        bank, about = state['bank'], state['about']
        rows = 0 if bank is None else len(bank)
        # Until the ring is full its pointer is the number of rows; later it may be anywhere.
        if rows > self.capacity or (rows < self.capacity and state['pointer'] != rows):
            raise ModelConfigError(
                f'memory.capacity: the checkpoint holds {rows} pixels, this run {self.capacity}: '
                'resume with the configuration of the run that wrote it'
            )
        self.bank = self.about = None
        if bank is not None:
            own_bank, own_about = self._allocate(bank.to(device=device, dtype=self.dtype))
            own_bank[:rows], own_about[:rows] = bank, about
        self.pointer, self.count = int(state['pointer']), rows
        self.last_fresh_id = int(state['last_fresh_id'])

    def _allocate(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Make the tensors once the length of a row is known."""
        if self.bank is None or self.about is None:
            self.bank = like.new_empty((self.capacity, like.shape[1]))
            self.about = like.new_empty((self.capacity, 3), dtype=torch.int64)
        return self.bank, self.about


def _gather_rows(rows: Tensor, about: Tensor) -> tuple[Tensor, Tensor]:
    """Bring the rows of all ranks to every rank, rank after rank.

    A rank without instances may not know yet how long a row is.
    """
    shapes = [one.tolist() for one in all_gather(torch.tensor(rows.shape, device=rows.device))]
    sizes = [size for size, _ in shapes]
    largest, width = max(sizes), max(width for _, width in shapes)
    gathered = []
    for part, columns in ((rows, width), (about, about.shape[1])):
        padded = part.new_zeros((largest, columns))
        padded[: len(part), : part.shape[1]] = part
        parts = all_gather(padded)
        gathered.append(torch.cat([one[:size] for one, size in zip(parts, sizes, strict=True)]))
    return gathered[0], gathered[1]

"""What the terms are told of a training step."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from isda_suite.layers.query_adapter import QueryAdapter, QueryRecord


@dataclass
class Step:
    """One training step after the base loss.

    Attributes:
        detector: The plain detector.
        adapter: The adapter of its head.
        inputs: (B, 3, H, W), normalised and padded.
        samples: B data samples.
        records: B records of the pass.
        losses: The base loss, as the detector returned it.
        number: How many steps there were before.
    """

    detector: nn.Module
    adapter: QueryAdapter
    inputs: Tensor
    samples: Sequence[Any]
    records: list[QueryRecord]
    losses: dict[str, Any] = field(default_factory=dict)
    number: int = 0

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """Size of the padded batch."""
        return (self.inputs.shape[-2], self.inputs.shape[-1])

    @property
    def silence(self) -> Tensor:
        """A zero that is connected to all queries, for steps in which a term has nothing to do."""
        zero = sum((r.queries.sum() * 0 for r in self.records), self.inputs.new_zeros(()))
        return zero

"""IUQ, the wrapper: any query-based detector, trained with two more terms.

Read first: :meth:`IUQDetector.loss`.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import OptSampleList, SampleList
from mmengine import ConfigDict
from torch import Tensor, nn

from isda_suite.layers.query_adapter import find_adapter
from isda_suite.registry import MODELS, TASK_UTILS

from .presets import settings_of
from .step import Step


@MODELS.register_module()
class IUQDetector(BaseDetector):
    """Train an unmodified detector with instance-unique querying.

    Nothing is left of it at inference: the plain detector predicts. The wrapper has the detector's
    modules as its own (they are the same dictionaries, not a module ``detector`` below), so names
    of parameters, checkpoints, learning rates by name and hooks are those of the plain detector.

    What training alone needs (memory, number of steps) is no part of the weights; a hook of the
    suite keeps it in checkpoints under ``iuq_state``, so that a resumed run goes on exactly.

    Args:
        detector: Config of the detector, as it stands in its own configuration.
        adapter: ``'auto'``, or name or config of an adapter, see
            :func:`isda_suite.layers.query_adapter.find_adapter`.
        preset: ``'paper'``, or one of the released ones: defaults of the next three.
        memory: What differs of the memory, see :class:`.memory.PixelMemory`.
        uniqueness: What differs of the loss, see :class:`.uniqueness.UniquenessLoss`; ``False``
            trains without the term.
        equivariance: What differs of the term, see :class:`.equivariance.Equivariance`; ``False``
            trains without it.
        warmup_steps: Steps over which both terms grow from 0 to their weight.

    Raises:
        ModelConfigError: for an unknown preset, a head without adapter, or a wrong option.

    Source: IUQ (arXiv:2210.00911).
    """

    training_state_key = 'iuq_state'

    def __init__(
        self,
        detector: Mapping[str, Any],
        adapter: str | dict[str, Any] = 'auto',
        preset: str = 'paper',
        memory: Mapping[str, Any] | None = None,
        uniqueness: Mapping[str, Any] | bool | None = None,
        equivariance: Mapping[str, Any] | bool | None = None,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__()
        # A copy: detectors of mmdet write into their configuration.
        self._share(MODELS.build(ConfigDict(copy.deepcopy(dict(detector)))))
        settings = settings_of(
            preset, memory=memory, uniqueness=uniqueness, equivariance=equivariance
        )
        self.adapter = find_adapter(self.plain, adapter)
        self.terms: list[Any] = []
        if settings['uniqueness'] is not None:
            self.terms.append(self._build_uniqueness(settings))
        if settings['equivariance'] is not None:
            term = {'type': 'isda_suite.Equivariance', **settings['equivariance']}
            self.terms.append(TASK_UTILS.build(term))
        self.warmup_steps = warmup_steps
        self.steps = 0

    def _share(self, detector: nn.Module) -> None:
        """Make the detector's modules, parameters and buffers this module's own."""
        self.__dict__['plain'] = detector
        for name in ('_modules', '_parameters', '_buffers', '_non_persistent_buffers_set'):
            self.__dict__[name] = detector.__dict__[name]

    def _build_uniqueness(self, settings: Mapping[str, Any]) -> Any:
        memory = dict(settings['memory'] or {})
        kind = memory.get('type', 'isda_suite.PixelMemory')
        if kind.rpartition('.')[2] != 'PixelMemory':
            return TASK_UTILS.build({**memory, 'loss': settings['uniqueness']})
        return TASK_UTILS.build(
            dict(
                type='isda_suite.PixelUniqueness',
                memory=memory,
                loss=settings['uniqueness'],
                row_pixels=self.adapter.row_pixels,
                max_rows=self.adapter.max_rows,
            )
        )

    def __getattr__(self, name: str) -> Any:
        """Be the detector in everything that is not the wrapper's own."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == 'plain' or 'plain' not in self.__dict__:
                raise
            return getattr(self.__dict__['plain'], name)

    def train(self, mode: bool = True) -> 'IUQDetector':
        """Switch the detector, which may keep parts of itself in another mode."""
        self.training = mode
        self.plain.train(mode)
        return self

    def init_weights(self) -> None:
        """Initialise the detector."""
        self.plain.init_weights()

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Any]:
        """Compute the base loss and the terms of IUQ.

        Args:
            batch_inputs: (B, 3, H, W), normalised and padded.
            batch_data_samples: B samples with ``gt_instances``.

        Returns:
            The terms of the detector, unchanged, and ``loss_unique``, ``loss_equi``; ``iuq/*`` are
            for the log only.
        """
        with self.adapter.record(self.plain, batch_data_samples) as records:
            losses = self.plain.loss(batch_inputs, batch_data_samples)
        found = dict(losses)
        step = Step(
            self.plain, self.adapter, batch_inputs, batch_data_samples, records, losses, self.steps
        )
        ramp = min((self.steps + 1) / self.warmup_steps, 1.0) if self.warmup_steps else 1.0
        for term in self.terms:
            for name, value in term(step).items():
                found[name] = value * ramp if ramp < 1 and 'loss' in name else value
        self.steps += 1
        return found

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, **kwargs: Any
    ) -> SampleList:
        """Let the detector predict."""
        result: SampleList = self.plain.predict(batch_inputs, batch_data_samples, **kwargs)
        return result

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None, **kwargs: Any
    ) -> Any:
        """Let the detector compute its raw outputs."""
        return self.plain._forward(batch_inputs, batch_data_samples, **kwargs)

    def extract_feat(self, batch_inputs: Tensor) -> Any:
        """Let the detector compute its features."""
        return self.plain.extract_feat(batch_inputs)

    def training_state(self) -> dict[str, Any]:
        """Return what a resumed run needs beside weights and optimizer."""
        states = [term.state_dict() if hasattr(term, 'state_dict') else {} for term in self.terms]
        return {'steps': self.steps, 'terms': states}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`training_state` of an equal configuration returned."""
        self.steps = int(state['steps'])
        device = next((p.device for p in self.parameters()), torch.device('cpu'))
        for term, own in zip(self.terms, state['terms'], strict=True):
            if own:
                term.load_state_dict(own, device)

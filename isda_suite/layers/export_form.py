"""The form in which a model leaves the suite: tensors in, tensors of fixed shape out.

A form is a module around a model. Its ``forward`` takes images as files hold them, computes what
the model computes, and returns results without structures or lengths that depend on the content,
so that ``torch.export`` and ONNX can write it down and ``torch.compile`` takes it in one graph.
Forms stand in the rooms of their methods and register in :data:`EXPORT_FORMS`.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from mmengine.registry import Registry
from torch import Tensor, nn

from isda_suite.registry import SCOPE

from .errors import ModelConfigError
from .padding import padding_at

EXPORT_FORMS = Registry(
    'export form',
    scope=SCOPE,
    locations=['isda_suite.layers.grid_mask_export', 'isda_suite.methods'],
)
RESULTS = ('image_masks', 'box_masks', 'class_map', 'clip')


class ImageInput(nn.Module):
    """Do what a data preprocessor does, with images of one size.

    Args:
        preprocessor: The ``data_preprocessor`` of a model: mean, standard deviation, order of
            channels and value of padding.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessor: Any) -> None:
        super().__init__()
        mean = getattr(preprocessor, 'mean', None)
        std = getattr(preprocessor, 'std', None)
        self.register_buffer('mean', torch.zeros(3) if mean is None else mean.flatten().clone())
        self.register_buffer('std', torch.ones(3) if std is None else std.flatten().clone())
        # The suite reads images as BGR, exported models get RGB: one of the two is turned round.
        self.reverse = not _turns_channels(preprocessor)
        self.pad_value = float(getattr(preprocessor, 'pad_value', None) or 0)
        self.divisor = int(getattr(preprocessor, 'pad_size_divisor', None) or 1)

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> Tensor:
        """Normalise images.

        Args:
            images: (B, 3, H, W) RGB, 0..255.
            sizes: (B, 2) int64 height and width without padding, which begins at the right and at
                the bottom; ``None`` if nothing is padded.

        Returns:
            (B, 3, H, W) float32, with the preprocessor's value in the padding.
        """
        images = images.flip(1) if self.reverse else images
        images = (images.float() - self.mean[:, None, None]) / self.std[:, None, None]
        if sizes is None:
            return images
        size_hw = (images.shape[2], images.shape[3])
        return images.masked_fill(padding_at(images, size_hw, sizes)[:, None], self.pad_value)

    def describe(self) -> dict[str, Any]:
        """Return mean and standard deviation in the order R, G, B."""
        order = (2, 1, 0) if self.reverse else (0, 1, 2)
        return {
            name: [round(float(values[i]), 6) for i in order]
            for name, values in (('mean', self.mean), ('std', self.std))
        }


class ExportForm(nn.Module):
    """A model as a function of tensors.

    A sub-class writes ``forward``: from ``images``, (B, 3, H, W) uint8 RGB, and further inputs to a
    tuple of tensors.

    Attributes:
        detectors: Names of the classes of models this form is for, sub-classes included.
        results: What a reader of the outputs has to do with them, one of ``RESULTS``.
        outputs: Names of the outputs, in the order of ``forward``'s results.
        stride: Heights and widths are multiples of it where they are not fixed.
        least_side: The smallest height and width of an export with free sides.

    Args:
        model: The model, in evaluation mode.
        batch_size: B, number of images; part of the exported program.

    Raises:
        ModelConfigError: for options of the model that have no exported form.
    """

    detectors: ClassVar[tuple[str, ...]] = ()
    results: ClassVar[str]
    outputs: ClassVar[tuple[str, ...]]
    stride: ClassVar[int] = 32
    least_side: ClassVar[int] = 64

    def __init__(self, model: Any, batch_size: int = 1) -> None:
        super().__init__()
        self.model = model
        self.batch_size = batch_size
        self.image_input = ImageInput(model.data_preprocessor)

    def example_inputs(self, size_hw: tuple[int, int], seed: int = 0) -> dict[str, Tensor]:
        """Make inputs by name; H and W are axes 2 and 3 of the images, or 3 and 4 of clips.

        Args:
            size_hw: H and W.
            seed: Of the pixels.
        """
        return {
            'images': random_pixels((self.batch_size, 3, *size_hw), seed),
            'sizes': torch.tensor([[size_hw[0] - 3, size_hw[1] - 5]]).repeat(self.batch_size, 1),
        }

    def describe(self) -> dict[str, Any]:
        """Return what a reader of the outputs must know beside their names."""
        return {}


class InstanceForm(ExportForm):
    """The form of a detector of instances, whose images are decoded one by one.

    A sub-class writes :meth:`outputs_of` and :meth:`decode`. Every image has the same number N of
    detections, best first unless the class says otherwise.
    """

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """Detect.

        Args:
            images: (B, 3, H, W) uint8 RGB; H and W are multiples of ``stride`` if they are free.
            sizes: (B, 2) int64, height and width of every image without padding.

        Returns:
            ``scores`` (B, N), ``labels`` (B, N) int64, and what else the class names: ``boxes``
            (B, N, 4) as xyxy in pixels of the input, ``masks`` or ``mask_logits`` (B, N, h, w).
        """
        found = [self.decode(*one) for one in self.outputs_of(images, sizes)]
        return tuple(torch.stack(values) for values in zip(*found, strict=True))

    def outputs_of(self, images: Tensor, sizes: Tensor) -> Iterable[tuple[Any, ...]]:
        """Run the network; return for every image the arguments of :meth:`decode`."""
        raise NotImplementedError

    def decode(self, *one: Any) -> tuple[Tensor, ...]:
        """Choose the detections of an image, (N, ...) each, in the order of ``outputs``."""
        raise NotImplementedError


def random_pixels(shape: tuple[int, ...], seed: int) -> Tensor:
    """Draw uint8 pixels that vary smoothly, (..., 3, H, W), with noise over them."""
    generator = torch.Generator().manual_seed(seed)
    rough = torch.rand((*shape[:-2], 6, 6), generator=generator).flatten(0, -4)
    smooth = nn.functional.interpolate(rough, shape[-2:], mode='bicubic').view(shape)
    noise = torch.randn(shape, generator=generator)
    return (smooth * 255 + noise * 12).clamp(0, 255).byte()


def find_export_form(model: Any, batch_size: int = 1) -> ExportForm:
    """Choose and build the form of a model; of a wrapper that has a ``plain`` model, of that one.

    Args:
        model: The model.
        batch_size: Images of a batch.

    Raises:
        ModelConfigError: if there is none, with the models that have one.
    """
    model = model.__dict__.get('plain', model)
    EXPORT_FORMS.import_from_location()
    names = [base.__name__ for base in type(model).__mro__]
    fitting = [
        (names.index(name), kind)
        for kind in EXPORT_FORMS.module_dict.values()
        for name in kind.detectors
        if name in names
    ]
    if not fitting:
        known = sorted(n for kind in EXPORT_FORMS.module_dict.values() for n in kind.detectors)
        raise ModelConfigError(
            f'model {type(model).__name__}: it has no form for export; these have one: '
            f'{", ".join(known)}. For a model of your own sub-class '
            'isda_suite.layers.export_form.ExportForm and register it in EXPORT_FORMS'
        )
    form: ExportForm = min(fitting, key=lambda one: one[0])[1](model, batch_size)
    return form


def _turns_channels(preprocessor: Any) -> bool:
    """Say whether a preprocessor turns BGR into RGB."""
    for name in ('_channel_conversion', 'channel_conversion'):
        if hasattr(preprocessor, name):
            return bool(getattr(preprocessor, name))
    return False

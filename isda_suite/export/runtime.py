"""Run an exported ONNX model on pictures, without PyTorch.

>>> model = OnnxModel('isda.onnx')
>>> found = model(cv2.imread('street.jpg'))
>>> found.masks.shape, found.labels, found.scores
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isda_suite.engine.errors import ConfigError

from .decoding import Detections, class_map_of, detections_of
from .description import from_properties
from .preparing import network_size, padded_size, resized

Array = NDArray[Any]


class OnnxModel:
    """An exported model of the suite.

    Args:
        path: The ``.onnx`` file.
        providers: Of onnxruntime, best first; ``None`` for the CPU.

    Attributes:
        description: The file's header: ``task``, ``classes``, ``inputs``, ``outputs``, …

    Raises:
        ConfigError: if the file is absent or another program's.
        ImportError: without onnxruntime.
    """

    def __init__(self, path: str | Path, providers: list[str] | None = None) -> None:
        file = Path(path).expanduser()
        if not file.is_file():
            raise ConfigError(f'{file}: no such file; expected a model that `isda export` wrote')
        self.session = open_session(str(file), providers)
        properties = self.session.get_modelmeta().custom_metadata_map
        self.description = from_properties(properties, str(file))
        self.task: str = self.description['task']
        self.classes = tuple(self.description['classes'])

    def __call__(self, image: Array, noise: Array | None = None) -> Any:
        """Segment one picture, or for a model of videos one clip.

        Args:
            image: (H, W, 3) uint8 BGR, as OpenCV reads it; of a clip (T, H, W, 3).
            noise: Random numbers for IDIP, (steps, N, 4); ``None`` draws them from the seed in
                the header, the same for every picture.

        Returns:
            :class:`.decoding.Detections` for instances; (H, W) class indices for semantic models;
            for clips the raw outputs by name, (K, T, ...) each.

        Raises:
            ConfigError: if the picture does not fit the model.
        """
        frames = image if self.task == 'video' else np.asarray(image)[None]
        self._require_pictures(frames)
        original = (frames.shape[1], frames.shape[2])
        size = network_size(original, self.description['resize'])
        frames = np.stack([resized(frame, size, self.description['resize']) for frame in frames])
        outputs = self.run(frames, noise)
        if self.task == 'video':
            return outputs
        if self.task == 'semantic':
            return class_map_of(outputs, size, original)
        return self.decode(outputs, size, original)

    def run(self, frames: Array, noise: Array | None = None) -> dict[str, Array]:
        """Run the network on frames (T, H, W, 3) of its own size; padding is added here.

        Returns:
            The outputs of the single image or clip, by name.
        """
        size = (frames.shape[1], frames.shape[2])
        height, width = self._input_size(size)
        images = np.zeros((len(frames), 3, height, width), np.uint8)
        images[:, :, : size[0], : size[1]] = frames[..., ::-1].transpose(0, 3, 1, 2)
        inputs: dict[str, Array] = {'images': images[None] if self.task == 'video' else images}
        wanted = self.description['inputs']
        if 'sizes' in wanted:
            inputs['sizes'] = np.array([size], np.int64)
        if 'noise' in wanted:
            inputs['noise'] = self._noise(noise)[None]
        found = self.session.run(None, inputs)
        return {name: value[0] for name, value in zip(self.outputs, found, strict=True)}

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs."""
        return list(self.description['outputs'])

    def decode(
        self, outputs: dict[str, Array], size: tuple[int, int], original: tuple[int, int]
    ) -> Detections:
        """Bring detections to the size of the picture; see :func:`.decoding.detections_of`."""
        return detections_of(outputs, self.description, size, original)

    def _noise(self, noise: Array | None) -> Array:
        shape = tuple(self.description['noise_shape'])
        if noise is None:
            generator = np.random.default_rng(self.description['seed'])
            return generator.standard_normal(shape).astype(np.float32)
        if noise.shape != shape:
            raise ConfigError(f'noise: expected an array of shape {shape}, got {noise.shape}')
        return noise.astype(np.float32)

    def _require_pictures(self, frames: Array) -> None:
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
            raise ConfigError(
                f'image: expected (H, W, 3) uint8 in the order blue, green, red, got shape '
                f'{frames.shape[1:]}, {frames.dtype}'
            )
        count = self.description.get('num_frames', 1)
        if len(frames) != count:
            raise ConfigError(f'image: this model takes clips of {count} frames, got {len(frames)}')

    def _input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the graph's input for a picture of the network's size."""
        shape = self.description['inputs']['images']['shape']
        if shape[0] != 1:
            raise ConfigError(f'this model takes batches of {shape[0]}: use its session')
        needed = padded_size(size, self.description)
        fixed = [n if isinstance(n, int) else None for n in shape[-2:]]
        pads = 'sizes' in self.description['inputs']
        found = [own or side for own, side in zip(fixed, needed, strict=True)]
        fits = all(
            side <= own if pads else side == own for side, own in zip(size, found, strict=True)
        )
        if not fits or (not pads and tuple(found) != size):
            raise ConfigError(
                f'image: the network would get {size[0]} x {size[1]}, this file takes '
                + (f'at most {found[0]} x {found[1]}' if pads else f'{found[0]} x {found[1]} alone')
                + ': export it for that size, or with --dynamic'
            )
        return found[0], found[1]


def open_session(model: str | bytes, providers: list[str] | None = None) -> Any:
    """Load a graph into onnxruntime.

    Args:
        model: The file, or its content.
        providers: Of onnxruntime; ``None`` for the CPU.

    Raises:
        ImportError: if onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            "onnxruntime: not installed; run `pip install 'isda_suite[onnx]'`"
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model, options, providers=providers or ['CPUExecutionProvider']
    )

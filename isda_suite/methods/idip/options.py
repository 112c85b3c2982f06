"""What of IDIP is chosen at test time; checked when the model is built and when it is used."""

from dataclasses import dataclass, fields
from typing import Any

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.option_checks import require_at_least, require_one_of

SAMPLING_TYPES = ('DDIM', 'DDPM')
RANDOMNESS = ('image', 'global')


@dataclass
class InferenceOptions:
    """``model.test_cfg`` of IDIP; the defaults are the published ones.

    Args:
        num_proposals: Boxes drawn for an image; ``None`` is the number of the training.
        sampling_steps: Times the head is asked, 1 to the length of the schedule. ``'DDPM'`` always
            takes the whole schedule.
        sampling_type: ``'DDIM'`` or ``'DDPM'``.
        deterministic: Whether DDIM adds no noise on the way.
        ensemble: Whether the predictions of all steps count, with duplicates suppressed over all of
            them. The published code keeps those of the last step.
        renewal_thr: Between two steps a proposal whose best class score is not above this is
            replaced by a fresh random one, 0..1.
        nms_iou_thr: Boxes of a class that overlap a better one by more are suppressed, 0..1.
        mask_thr: A pixel is foreground from here on, 0..1.
        score_thr: Detections below are dropped, 0..1.
        max_per_img: Detections of an image at most; -1 for all that suppression leaves.
        clip_before_mask: Whether boxes are clipped to the image before their masks are predicted.
            The published code predicts the mask of the whole box and pastes it into the clipped
            one, which squeezes the masks of objects at the border.
        randomness: ``'image'``: the random numbers of an image follow from ``seed`` and its id, so
            results depend neither on the batch nor on the order. ``'global'``: from torch's global
            generator, as published.
        seed: For ``'image'``.

    Raises:
        ModelConfigError: naming the option with a value that cannot be.
    """

    num_proposals: int | None = None
    sampling_steps: int = 3
    sampling_type: str = 'DDIM'
    deterministic: bool = False
    ensemble: bool = False
    renewal_thr: float = 0.5
    nms_iou_thr: float = 0.5
    mask_thr: float = 0.5
    score_thr: float = 0.0
    max_per_img: int = -1
    clip_before_mask: bool = False
    randomness: str = 'image'
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        require_one_of('test_cfg.sampling_type', self.sampling_type, SAMPLING_TYPES)
        require_one_of('test_cfg.randomness', self.randomness, RANDOMNESS)
        require_at_least('test_cfg.sampling_steps', self.sampling_steps, 1)
        require_at_least('test_cfg.seed', self.seed, 0)
        if self.num_proposals is not None:
            require_at_least('test_cfg.num_proposals', self.num_proposals, 1)
        if self.max_per_img != -1:
            require_at_least('test_cfg.max_per_img (or -1)', self.max_per_img, 1)
        for name in ('renewal_thr', 'nms_iou_thr', 'mask_thr', 'score_thr'):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ModelConfigError(f'test_cfg.{name}: expected a number in 0..1, got {value!r}')

    @classmethod
    def of(cls, test_cfg: dict[str, Any] | None, num_steps: int) -> 'InferenceOptions':
        """Read ``model.test_cfg``.

        Args:
            test_cfg: The configuration; ``None`` for all defaults.
            num_steps: Length of the schedule.

        Raises:
            ModelConfigError: for an unknown option, or a value that cannot be.
        """
        given = dict(test_cfg or {})
        known = [one.name for one in fields(cls)]
        unknown = [name for name in given if name not in known]
        if unknown:
            raise ModelConfigError(
                f'test_cfg: unknown {", ".join(unknown)}; IDIP knows {", ".join(known)}'
            )
        options = cls(**given)
        if options.sampling_steps > num_steps:
            raise ModelConfigError(
                f'test_cfg.sampling_steps: expected at most {num_steps}, the length of the '
                f'schedule (diffusion.num_steps), got {options.sampling_steps}'
            )
        return options

    def describe_sampling(self, num_steps: int) -> str:
        """Say in words how boxes are sampled.

        Args:
            num_steps: Length of the schedule.
        """
        counted = ', all of which count' if self.ensemble else ''
        if self.sampling_type == 'DDPM':
            return f'DDPM in {num_steps} steps{counted}'
        noise = ' without noise on the way' if self.deterministic else ''
        return f'DDIM in {self.sampling_steps} steps{noise}{counted}'

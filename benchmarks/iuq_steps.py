"""Models, inputs, steps and the dense rival of IUQ, for ``benchmarks/iuq.py``."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.idip_steps import make_images, make_samples

CAPACITY, WIDTH, QUERIES = 100_000, 256, 100
# Configuration, side of the images, numbers of a stored pixel.
MODELS = {
    'solov2': ('configs/iuq/iuq_solov2-r18_custom_coco.py', 384, 64),
    'isda': ('configs/iuq/iuq_isda-r50_custom_coco.py', 192, 256),
}
PLAIN = 'plain'
EVERY_FOURTH = 'equivariance every 4th step'
VARIANTS: dict[str, dict[str, Any]] = {
    'uniqueness': dict(equivariance=False),
    'equivariance every step': {},
    EVERY_FOURTH: dict(equivariance=dict(every_n=4)),
    'equivariance, flips only': dict(equivariance=dict(transform=dict(type='isda_suite.FlipX'))),
}
RELEASED = {'released SOLOv2': dict(preset='released_solov2')}


def variants_of(model: str) -> dict[str, dict[str, Any]]:
    """Return the options of IUQ that are compared for a model."""
    return {**VARIANTS, **(RELEASED if model == 'solov2' else {})}


def build_model(name: str, options: dict[str, Any] | None, num_classes: int = 80) -> Any:
    """Build a detector with random weights, the same with IUQ around (options) and without."""
    from mmengine import Config
    from mmengine.registry import init_default_scope

    from isda_suite.registry import MODELS as REGISTRY
    from isda_suite.resources import resource_root

    init_default_scope('mmdet')
    detector = Config.fromfile(resource_root() / MODELS[name][0]).model.detector
    detector.backbone.init_cfg = None
    detector.get('mask_head', detector.get('bbox_head')).num_classes = num_classes
    if 'bbox_head' in detector and detector.bbox_head:
        detector.bbox_head.num_classes = num_classes
    config = detector
    if options is not None:
        config = dict(type='isda_suite.IUQDetector', detector=detector, **options)
    torch.manual_seed(0)
    model: Any = REGISTRY.build(config)
    model.init_weights()
    return model.train()


def fill_memory(model: Any, width: int) -> None:
    """Fill the memory of pixels, as it is after the first steps of a training."""
    for term in model.terms:
        if hasattr(term, 'memory'):
            term.memory.push(*make_rows(width))


def make_rows(width: int, count: int = CAPACITY, first_image: int = 10**6) -> tuple[Tensor, Tensor]:
    """Make rows (count, width) and what is known of them, of images no batch has."""
    generator = torch.Generator().manual_seed(5)
    rows = 0.3 * torch.randn(count, width, generator=generator)
    about = torch.zeros(count, 3, dtype=torch.long)
    about[:, 0] = first_image + torch.arange(count) // 500
    return rows, about


def make_batch(side: int, objects: int) -> tuple[Tensor, list[Any]]:
    """Make two images with ellipses."""
    samples = make_samples(2, side, objects)
    for sample in samples:
        size = (side, side)
        sample.set_metainfo(dict(batch_input_shape=size, pad_shape=size, scale_factor=(1.0, 1.0)))
    return make_images(2, side), samples


def make_step(
    name: str, options: dict[str, Any] | None, side: int, objects: int
) -> Callable[[], dict[str, float]]:
    """Return the function that trains a step: loss, backward, clipping, SGD; gives the losses.

    Transformations are drawn anew in every step, the same in the n-th step of all variants.
    """
    model = build_model(name, options)
    if options is not None:
        fill_memory(model, MODELS[name][2])
    images, samples = make_batch(side, objects)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=1e-7, momentum=0.9)
    number = 0

    def step() -> dict[str, float]:
        nonlocal number
        torch.manual_seed(number)
        number += 1
        found = {key: sum(value) if isinstance(value, list) else value.sum()
                 for key, value in model.loss(images, samples).items()}  # fmt: skip
        torch.stack([value for key, value in found.items() if 'loss' in key]).sum().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        return {key: value.item() for key, value in found.items()}

    return step


def require_equal_base(steps: Mapping[str, Callable[[], dict[str, float]]]) -> None:
    """Refuse to time wrappers whose base losses are not those of the plain detector, bit for bit.

    Args:
        steps: New ones, that of ``PLAIN`` first; each trains one step.

    Raises:
        SystemExit: if a loss differs, or a variant lacks its terms.
    """
    plain: dict[str, float] = {}
    for variant, step in steps.items():
        found = step()
        plain = plain or found
        if any(found.get(key) != value for key, value in plain.items()):
            raise SystemExit(f'{variant}: other base losses; nothing was timed')
        wanted = set() if variant == PLAIN else {'loss_unique'}
        wanted |= {'loss_equi'} if variant not in (PLAIN, 'uniqueness') else set()
        if not wanted <= set(found):
            raise SystemExit(f'{variant}: expected {wanted}, found {set(found)}')


def make_uniqueness(variant: str, rows: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
    """Return the function that computes the term and the gradient of its queries.

    Args:
        variant: ``'ours'``; ``'ours, any adapter'``, which asks autograd for the gradient of
            responses as for heads without dot products; ``'dense'``: the formula written down,
            all responses at once.
        rows: (P, D) float16, as the memory has them.
    """
    from isda_suite.methods.isda import ISDAAdapter
    from isda_suite.methods.iuq import UniquenessLoss

    loss, adapter = UniquenessLoss(), ISDAAdapter(None)
    generator = torch.Generator().manual_seed(6)
    values = 0.3 * torch.randn(QUERIES, rows.shape[1], generator=generator)
    allowed = torch.arange(len(rows)) >= 500  # the first image is the queries' own

    def respond(queries: Tensor, part: Tensor) -> Tensor:
        return queries @ part.T

    def run() -> tuple[Tensor, Tensor]:
        queries = values.clone().requires_grad_()
        if variant == 'dense':
            logits = queries @ rows.float().T
            every = loss.alpha * logits.sigmoid() ** loss.gamma * F.softplus(logits)
            value = ((every * allowed).sum(dim=1) / allowed.sum()).sum()
        else:
            answer = adapter.respond if variant == 'ours' else respond
            value = loss.on_rows(queries, rows, allowed, answer)
        value.backward()  # type: ignore[no-untyped-call]
        assert queries.grad is not None
        return value.detach(), queries.grad

    return run

"""The models that a visitor may choose from."""

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from urllib.parse import urlsplit

from isda_suite.apis.model_choice import RANDOM
from isda_suite.apis.segmenter import Segmenter
from isda_suite.apis.zoo import list_models, resolve_weights
from isda_suite.engine.config_file import find_config
from isda_suite.engine.errors import ConfigError


@dataclass(frozen=True)
class Offer:
    """A model that can be chosen.

    Args:
        name: What the visitor reads.
        model: Name or path of the configuration.
        weights: As ``Segmenter`` takes them.
    """

    name: str
    model: str
    weights: str | None


def choose_offers(models: Sequence[str], weights: Sequence[str]) -> list[Offer]:
    """Pair models with their weights.

    Args:
        models: Names or paths of configurations; none stands for all models of the zoo that have
            weights.
        weights: One for each model, in the same order; none takes those of the zoo.

    Returns:
        At least one, with names that differ.

    Raises:
        ConfigError: if there is nothing to show, the numbers differ, or there is no such model.
        CheckpointError: if there is no such file of weights.
    """
    if not models and not weights:
        offers = [Offer(one.name, one.name, None) for one in list_models() if one.weights]
        if not offers:
            raise ConfigError(
                'no model to show: no model of the zoo has published weights. Give yours, '
                f'--model CONFIG --weights CKPT, or --weights {RANDOM} to try an untrained model'
            )
        return offers
    if weights and len(weights) != len(models):
        raise ConfigError(
            f'{len(models)} models and {len(weights)} weights: give --weights once after each '
            '--model, or never to take those of the zoo'
        )
    files: Sequence[str | None] = weights or [None] * len(models)
    pairs = list(zip(models, files, strict=True))
    stems = [find_config(model).stem for model, _ in pairs]
    for model, file in pairs:
        _require_weights(model, file)
    return [
        Offer(_full_name(stem, file, stems), model, file)
        for stem, (model, file) in zip(stems, pairs, strict=True)
    ]


def _require_weights(model: str, weights: str | None) -> None:
    """Find a missing file before the page is open; nothing is fetched."""
    if weights is None and find_config(model).stem not in {m.name for m in list_models()}:
        raise ConfigError(f'--model {model} is no model of the zoo: give its --weights')
    if weights is not None and weights != RANDOM and '://' not in weights:
        resolve_weights(weights)


def _full_name(stem: str, weights: str | None, stems: Sequence[str]) -> str:
    if Counter(stems)[stem] == 1:
        return stem
    path = urlsplit(weights or 'zoo').path
    return f'{stem} ({Path(path).parent.name}/{Path(path).stem})'


class ModelShelf:
    """Holds the models that were used last; others are loaded when they are wanted.

    Args:
        offers: What there is.
        device: As ``Segmenter`` takes it.
        min_score: What scores below is not even kept, 0..1.
        trust: Read checkpoints that may run code.
        room: How many models are held at a time.
    """

    def __init__(
        self,
        offers: Sequence[Offer],
        device: str = 'auto',
        min_score: float = 0.05,
        trust: bool = False,
        room: int = 2,
    ) -> None:
        self._offers = {offer.name: offer for offer in offers}
        if len(self._offers) < len(offers):
            raise ConfigError('two models of the same configuration and weights: give each once')
        self.min_score = min_score
        self._device = device
        self._trust = trust
        self._room = room
        self._loaded: OrderedDict[str, Segmenter] = OrderedDict()
        self._lock = Lock()

    @property
    def names(self) -> list[str]:
        """Names of all models."""
        return list(self._offers)

    def take(self, name: str) -> Segmenter:
        """Return a model, loading it if it is not held.

        Args:
            name: One of :attr:`names`.

        Raises:
            ConfigError: if there is no such model, or it cannot be built.
            CheckpointError: if its weights cannot be used.
        """
        if name not in self._offers:
            raise ConfigError(f'there is no model {name!r} here, but {", ".join(self.names)}')
        with self._lock:
            if name not in self._loaded:
                while len(self._loaded) >= self._room:
                    self._loaded.popitem(last=False)
                self._loaded[name] = self._load(self._offers[name])
            self._loaded.move_to_end(name)
            return self._loaded[name]

    def _load(self, offer: Offer) -> Segmenter:
        return Segmenter(
            offer.model,
            offer.weights,
            device=self._device,
            score_thr=self.min_score,
            trust=self._trust,
        )

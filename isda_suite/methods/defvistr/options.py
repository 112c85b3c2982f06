"""What the three variants are, and the options that encoder and decoder share."""

from dataclasses import dataclass, fields
from typing import Any

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.option_checks import require_known, require_one_of

from .position_encoding import require_even_channels

QUERY_LAYOUTS = ('instance_major', 'interleaved')


@dataclass(frozen=True)
class Variant:
    """One of the three models.

    Args:
        deformable: Whether the encoder samples points of all frames, rather than attending to
            every token.
        slots: Whether each instance has a slot of its own, with tokens in the encoder and a
            decoder pass apart from the others.
    """

    deformable: bool
    slots: bool


VARIANTS = {
    'instance_token': Variant(deformable=True, slots=True),
    'frame_query': Variant(deformable=True, slots=False),
    'vistr': Variant(deformable=False, slots=False),
}


@dataclass(frozen=True)
class TransformerOptions:
    """Sizes of encoder and decoder.

    Args:
        in_channels: Channels of the backbone's last map.
        embed_dims: C, a multiple of the heads and of 12.
        num_heads: M.
        num_points: P, points of a query, head and frame in the deformable encoder.
        feedforward_channels: Width of the feed-forward networks.
        encoder_layers: Layers of the encoder.
        decoder_layers: Layers of the decoder, N.
        tokens_per_instance: Learned tokens of a slot in the encoder; variants without slots have
            none, whatever it says.
        dropout: Probability, everywhere in the transformer.
        encoder_cp: Whether the encoder's layers are computed again in the backward pass instead of
            being kept.
        decoder_cp: The same for the decoder's.
    """

    in_channels: int = 2048
    embed_dims: int = 384
    num_heads: int = 8
    num_points: int = 6
    feedforward_channels: int = 2048
    encoder_layers: int = 6
    decoder_layers: int = 6
    tokens_per_instance: int = 20
    dropout: float = 0.1
    encoder_cp: bool = True
    decoder_cp: bool = True

    @classmethod
    def of(cls, config: dict[str, Any] | None) -> 'TransformerOptions':
        """Read a configuration.

        Raises:
            ModelConfigError: if a key is unknown or a number cannot be.
        """
        config = dict(config or {})
        known = [f.name for f in fields(cls)]
        require_known('transformer', config, known)
        options = cls(**config)
        for name in known[:8]:
            require_positive(f'transformer.{name}', getattr(options, name))
        if options.embed_dims % options.num_heads:
            raise ModelConfigError(
                f'transformer.embed_dims: expected a multiple of num_heads={options.num_heads}, '
                f'got {options.embed_dims}'
            )
        for axes in (2, 3):
            require_even_channels('transformer.embed_dims', options.embed_dims, axes)
        return options


def require_positive(name: str, value: int) -> None:
    """Refuse a number below 1.

    Raises:
        ModelConfigError: if ``value`` is below 1.
    """
    if value < 1:
        raise ModelConfigError(f'{name}: expected at least 1, got {value}')


def check_variant(
    variant: str,
    num_frames: int,
    num_instances: int,
    num_queries: int | None,
    query_layout: str,
) -> None:
    """Refuse options that are not those of the variant; arguments as of the detector.

    Raises:
        ModelConfigError: for an unknown word, a number that cannot be, or another variant's option.
    """
    require_one_of('variant', variant, tuple(VARIANTS))
    require_one_of('query_layout', query_layout, QUERY_LAYOUTS)
    require_positive('num_frames', num_frames)
    require_positive('num_instances', num_instances)
    slots = VARIANTS[variant].slots
    rows = num_frames * (1 if slots else num_instances)
    if num_queries not in (None, rows):
        rule = 'num_frames' if slots else 'num_frames * num_instances'
        raise ModelConfigError(
            f'num_queries: the variant {variant!r} has a table of {rule} = {rows} queries, '
            f'got {num_queries}; leave it out, or change the other numbers'
        )
    if not slots and query_layout == 'interleaved':
        raise ModelConfigError(
            f"query_layout: 'interleaved' is the order of slots, which the variant {variant!r} "
            'does not have; leave it out'
        )

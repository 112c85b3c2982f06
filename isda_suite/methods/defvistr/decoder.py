"""The decoder: queries of slots, or of frames, look for instances in the memory of a clip."""

import torch
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from .attention import FusedAttention
from .encoder import ffn_config, layer_norms, run_layer, xavier_matrices
from .options import TransformerOptions


class SlotDecoderLayer(BaseModule):
    """Decoder layer of DETR with names as in mmdet, whose self-attention stays inside a slot.

    Axes: B clips, G slots, Q queries of a slot, S tokens of the memory, C channels.
    """

    def __init__(self, options: TransformerOptions) -> None:
        super().__init__()
        c, heads, dropout = options.embed_dims, options.num_heads, options.dropout
        self.self_attn = FusedAttention(c, heads, dropout)
        self.cross_attn = FusedAttention(c, heads, dropout)
        self.ffn = FFN(**ffn_config(options))
        self.norms = layer_norms(c, 3)

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        memory: Tensor,
        memory_pos: Tensor,
        allowed: Tensor | None,
    ) -> Tensor:
        """Let the queries look at each other inside their slot, then at the memory.

        Args:
            query: (B, G, Q, C).
            query_pos: (Q, C).
            memory: (B, S, C); its keys and values are computed once for all slots.
            memory_pos: (B, S, C).
            allowed: Bool, broadcast to (B, M, G * Q, S); ``None`` for everything.

        Returns:
            (B, G, Q, C).
        """
        b, g = query.shape[:2]
        query = query.flatten(0, 1)
        query = self.self_attn(query, query_pos)
        query = self.norms[0](query).view(b, -1, query.shape[-1])
        position = query_pos.repeat(g, 1)
        query = self.cross_attn(query, position, memory, memory_pos, allowed)
        query = self.norms[1](query)
        query = self.norms[2](self.ffn(query))
        return query.view(b, g, -1, query.shape[-1])


class SlotDecoder(BaseModule):
    """Decode slots side by side; nothing is exchanged between them.

    A slot may attend to all tokens of the frames and, of the tokens behind them, to its own ones.
    Instead of a memory of its own for every slot there is one for all, with a mask: the same
    numbers, and the keys and values of the frames are computed once.

    Axes: B clips, G slots, Q queries of a slot, S tokens of frames, K tokens of a slot,
    C channels, N layers.

    Args:
        options: Sizes.
        num_slots: G; 1 for a model without slots.
        tokens_per_slot: K; 0 for a model without slots.

    Source: DefVisTR (arXiv:2203.06318), section 2; DETR (arXiv:2005.12872).
    """

    def __init__(
        self, options: TransformerOptions, num_slots: int = 1, tokens_per_slot: int = 0
    ) -> None:
        super().__init__()
        self.num_slots = num_slots
        self.tokens_per_slot = tokens_per_slot
        self.with_cp = options.decoder_cp
        self.layers = ModuleList(SlotDecoderLayer(options) for _ in range(options.decoder_layers))
        self.post_norm = nn.LayerNorm(options.embed_dims)

    def init_weights(self) -> None:
        """Start from Xavier's distribution."""
        super().init_weights()
        xavier_matrices(self)

    def forward(
        self,
        query_pos: Tensor,
        memory: Tensor,
        memory_pos: Tensor,
        hidden: Tensor | None = None,
    ) -> Tensor:
        """Decode all layers.

        Args:
            query_pos: (Q, C), the learned queries; their content starts at 0.
            memory: (B, S + G * K, C).
            memory_pos: (B, S + G * K, C).
            hidden: (B, S) bool, True for tokens of frames that are padding; ``None`` if none is.

        Returns:
            (N, B, G, Q, C), every layer's queries after the final norm.
        """
        b, g, q = len(memory), self.num_slots, len(query_pos)
        allowed = self._allowed(q, memory, hidden)
        query = memory.new_zeros(b, g, *query_pos.shape)
        outputs = []
        for layer in self.layers:
            query = run_layer(layer, self.with_cp, query, query_pos, memory, memory_pos, allowed)
            outputs.append(self.post_norm(query))
        return torch.stack(outputs)

    def _allowed(self, num_queries: int, memory: Tensor, hidden: Tensor | None) -> Tensor | None:
        """Say which tokens the queries of each slot may see: (1 or B, 1, G * Q or 1, S + G * K)."""
        g, k = self.num_slots, self.tokens_per_slot
        seen = None if hidden is None else ~hidden[:, None, None]
        if not k:
            return seen
        own = torch.eye(g, dtype=torch.bool, device=memory.device)
        own = own.repeat_interleave(num_queries, 0).repeat_interleave(k, 1)
        if seen is None:
            seen = own.new_ones(1, 1, 1, memory.shape[1] - g * k)
        own = own.expand(len(seen), 1, -1, -1)
        return torch.cat((seen.expand(-1, -1, own.shape[2], -1), own), -1)


def slots_to_instances(output: Tensor, num_frames: int, layout: str) -> Tensor:
    """Say which instance and frame the queries of slots stand for.

    Compat: the published code flattens (query, slot) without a transpose and reads the result as
    (instance, frame): output k = instance * T + frame then comes from query k // G of slot k % G.
    Its weights need ``'interleaved'``; ``'instance_major'`` is query = frame, slot = instance.

    Args:
        output: (N, B, G, Q, C) with Q = T.
        num_frames: T.
        layout: ``'interleaved'`` or ``'instance_major'``.

    Returns:
        (N, B, G instances, T, C).
    """
    if layout == 'instance_major':
        return output
    n, b, g, _, c = output.shape
    return output.transpose(2, 3).reshape(n, b, g, num_frames, c)


def frames_to_instances(output: Tensor, num_frames: int) -> Tensor:
    """Order the queries of a model without slots, which stand frame by frame.

    Args:
        output: (N, B, 1, T * K, C).
        num_frames: T.

    Returns:
        (N, B, K instances, T, C).
    """
    n, b, _, _, c = output.shape
    return output.view(n, b, num_frames, -1, c).transpose(2, 3)

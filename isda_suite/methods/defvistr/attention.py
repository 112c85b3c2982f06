"""Dense attention by PyTorch's fused kernels, with the names and numbers of mmcv's module."""

import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import MultiheadAttention
from torch import Tensor


class FusedAttention(MultiheadAttention):
    r"""Multi-head attention with a residual that keeps no map of weights.

    .. math:: x + \mathrm{Drop}(W_o \, \mathrm{softmax}(q k^T / \sqrt{D}) \, v)

    mmcv's class asks ``nn.MultiheadAttention`` for the mean map over heads, which makes it write
    all maps to memory. Names of parameters, initialisation and numbers are the same.

    Axes: B batch, Q queries, S keys, C channels, M heads.

    Args:
        embed_dims: C.
        num_heads: M.
        dropout: Probability for weights and for channels of the output.
    """

    def __init__(self, embed_dims: int, num_heads: int, dropout: float) -> None:
        super().__init__(
            embed_dims,
            num_heads,
            attn_drop=dropout,
            dropout_layer=dict(type='Dropout', drop_prob=dropout),
            batch_first=True,
        )

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        memory: Tensor | None = None,
        memory_pos: Tensor | None = None,
        allowed: Tensor | None = None,
    ) -> Tensor:
        """Attend to the memory, or to the queries themselves, and add the result to the queries.

        Args:
            query: (B, Q, C).
            query_pos: Added to the queries for their projection.
            memory: (B, S, C), the values and, with their position, the keys; the queries if
                ``None``.
            memory_pos: Added to the memory for the keys; needed with ``memory``.
            allowed: Bool, broadcast to (B, M, Q, S): which keys a query may see; ``None`` for all.

        Returns:
            (B, Q, C).
        """
        values = query if memory is None else memory
        keys = query + query_pos if memory_pos is None else values + memory_pos
        operands = (query + query_pos, keys, values)
        attn = self.attn
        weights, biases = attn.in_proj_weight.chunk(3), attn.in_proj_bias.chunk(3)
        head_dims = self.embed_dims // self.num_heads
        q, k, v = (
            F.linear(x, w, b).view(len(x), -1, self.num_heads, head_dims).transpose(1, 2)
            for x, w, b in zip(operands, weights, biases, strict=True)
        )
        dropout = attn.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout)
        out = attn.out_proj(out.transpose(1, 2).flatten(2))
        return query + self.dropout_layer(self.proj_drop(out))

"""Where in a frame an instance is: attention maps of its query over the frame's memory."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isda_suite.layers.errors import ModelConfigError


class BoxAttention(nn.Module):
    r"""Attention maps whose softmax runs over heads and positions together.

    .. math::
        A_{mp} = \frac{\exp(q_m \cdot k_{mp} / \sqrt{D})}
                      {\sum_{m'p'} \exp(q_{m'} \cdot k_{m'p'} / \sqrt{D})}

    So the M maps of one query sum to 1 in all, not each for itself. The keys depend on the frame
    only: compute them once by :meth:`keys` and use them for every instance.

    Axes: T frames, C embed dims, M heads, D = C / M, (h, w) size of the memory.

    Args:
        embed_dims: C, a multiple of ``num_heads``.
        num_heads: M.

    Raises:
        ModelConfigError: if C is no multiple of M.

    Source: DETR (arXiv:2005.12872), section 4.4; DefVisTR (arXiv:2203.06318).
    """

    def __init__(self, embed_dims: int, num_heads: int = 8) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ModelConfigError(
                f'embed_dims: expected a multiple of num_heads={num_heads}, got {embed_dims}; '
                'change one of the two'
            )
        self.num_heads = num_heads
        self.scale = (embed_dims // num_heads) ** -0.5
        self.q_linear = nn.Linear(embed_dims, embed_dims)
        self.k_linear = nn.Linear(embed_dims, embed_dims)
        for linear in (self.q_linear, self.k_linear):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def keys(self, memory: Tensor) -> Tensor:
        """Project the memory of frames: (T, C, h, w) to (T, C, h, w)."""
        return F.conv2d(memory, self.k_linear.weight[:, :, None, None], self.k_linear.bias)

    def attend(self, queries: Tensor, keys: Tensor, padding_mask: Tensor) -> Tensor:
        """Compute the maps of some slots of one clip.

        Args:
            queries: (N, T, C), N slots of the clip; N may be 0.
            keys: (T, C, h, w), from :meth:`keys`.
            padding_mask: (T, h, w) bool, True where the frame is padding.

        Returns:
            (N, T, M, h, w) float32 (float64 for such operands), 0 at padding. A frame that is all
            padding gets equal weights instead of numbers that are none.
        """
        n, t, c = queries.shape
        heads = self.num_heads
        h, w = keys.shape[-2:]
        q = (self.q_linear(queries) * self.scale).view(n, t, heads, c // heads)
        k = keys.reshape(t, heads, c // heads, h * w)
        logits = torch.einsum('ntmd,tmdp->ntmp', q, k)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        hidden = padding_mask.reshape(1, t, 1, h * w)
        logits = logits.masked_fill(hidden, torch.finfo(logits.dtype).min)
        return logits.flatten(2).softmax(-1).view(n, t, heads, h, w)

    def forward(self, queries: Tensor, memory: Tensor, padding_mask: Tensor) -> Tensor:
        """Compute the maps of all slots.

        Args:
            queries: (B, K, T, C).
            memory: (B, T, C, h, w).
            padding_mask: (B, T, h, w) bool, True where the frame is padding.

        Returns:
            (B, K, T, M, h, w) maps.
        """
        clips = zip(queries, memory, padding_mask, strict=True)
        return torch.stack([self.attend(q, self.keys(m), p) for q, m, p in clips])

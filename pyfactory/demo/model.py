"""A small GPT, plain enough to read in a minute.

Source of the architecture: Radford et al., Language Models are Unsupervised Multitask Learners (2019).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SmallGPT"]


class SmallGPT(nn.Module):
    """A causal transformer over tokens; about 1.5 million parameters with a vocabulary of 4,096.

    Args:
        vocab_size: Number of token ids.
        length: Longest sequence.
        width: Size of the residual stream.
        layers: Number of blocks.
        heads: Attention heads of a block.
    """

    def __init__(self, vocab_size: int, length: int, width: int = 128, layers: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)

    def forward(self, input_ids: Tensor, position_ids: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats; int64 [batch, length] each, targets of -100 do not count."""
        hidden = self.tokens(input_ids) + self.positions(position_ids)
        for block in self.blocks:
            hidden = block(hidden)
        # Input and output embeddings are tied.
        logits = self.norm(hidden) @ self.tokens.weight.T
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        batch, length, width = hidden.shape
        qkv = self.qkv(self.norm_in(hidden)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        widened: Tensor = self.down(F.gelu(self.up(self.norm_out(hidden))))
        return hidden + widened

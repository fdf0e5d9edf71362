"""The text encoder of the released checkpoints: UMT5-XXL through transformers, loaded at the first instruction."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lingbot_va_core.text import TextError, clean

LENGTH = 512  # rows; padding to fewer makes the released models fail


class UMT5TextEncoder:
    """The last hidden states of UMT5; rows past the true length are set to zero.

    Args:
        locate: returns the folder that holds `text_encoder/` and `tokenizer/`; called at the first instruction that
            must be encoded (11 GB for the released encoder). Raises ValueError where there is none.
        dim: width of the hidden states.
        length: rows.
        device: where the encoder runs.
        dtype: of its weights.
    """

    def __init__(
        self,
        locate: Callable[[], Path],
        dim: int,
        length: int = LENGTH,
        device: torch.device | str = 'cpu',
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        self.dim, self.length = dim, length
        self._locate, self._device, self._dtype = locate, torch.device(device), dtype

    @torch.inference_mode()
    def encode(self, instruction: str) -> Tensor:
        """See `TextEncoder.encode`. Instructions past `length` tokens are cut.

        Raises:
            TextError: the encoder or the tokenizer is not there, or has another width.
        """
        tokenizer, encoder = self._parts
        tokens = tokenizer(
            [clean(instruction)],
            padding='max_length',
            max_length=self.length,
            truncation=True,
            add_special_tokens=True,
            return_attention_mask=True,
            return_tensors='pt',
        )
        mask = tokens.attention_mask.to(self._device)
        hidden = encoder(tokens.input_ids.to(self._device), mask).last_hidden_state[0]
        return (hidden * mask[0, :, None]).float().cpu()

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        try:
            folder = self._locate()
        except ValueError as error:
            raise TextError(f'the UMT5 text encoder is not available: {error}') from error
        for part in ('text_encoder', 'tokenizer'):
            if not (folder / part).is_dir():
                raise TextError(f'there is no {part} in {folder}; download {part}/ of a released checkpoint into it')
        from transformers import AutoTokenizer, UMT5EncoderModel

        try:
            tokenizer = AutoTokenizer.from_pretrained(folder / 'tokenizer', local_files_only=True)
            encoder = UMT5EncoderModel.from_pretrained(
                folder / 'text_encoder', dtype=self._dtype, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise TextError(f'the UMT5 text encoder in {folder} cannot be loaded: {error}') from error
        if encoder.config.d_model != self.dim:
            raise TextError(f'{folder / "text_encoder"} is {encoder.config.d_model} wide; this model needs {self.dim}')
        return tokenizer, encoder.to(self._device).eval().requires_grad_(False)

"""The base encoder with a LoRA adapter and a head, and the files both are kept in.

Files of a card:
- `adapter/adapter_model.safetensors`, `adapter/adapter_config.json`: PEFT's layout. Keys are
  `base_model.model.encoder.layer.N.attention.self.query.lora_A.weight` ([r, in]) and `…lora_B.weight`
  ([out, r]), stored as float16. The served weight is W + (lora_alpha / r) · B · A, computed in float32.
- `head.safetensors`, float32: `dense.weight` [H, H] and `dense.bias` [H] followed by tanh (both absent
  in heads without that layer), `classifier.weight` [C, H] and `classifier.bias` [C].
"""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertModel
from transformers.utils import logging

from .base import MODEL_NAME, MODEL_REVISION, base_folder

LORA_RANK = 16
LORA_ALPHA = 32
LORA_DROPOUT = 0.1
# Every linear layer of the encoder; the pooler, which only next-sentence models use, is left out.
LORA_TARGETS = [
    "query",
    "key",
    "value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
]
ADAPTER_FILE = "adapter/adapter_model.safetensors"
ADAPTER_CONFIG_FILE = "adapter/adapter_config.json"
HEAD_FILE = "head.safetensors"

logging.set_verbosity_error()  # the pooler's unused weights are expected


class Head(nn.Module):
    """[*, H] to [*, C]; with `dense`, a tanh layer comes first."""

    def __init__(self, hidden: int, classes: int, dense: bool, dropout: float = 0.1) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, hidden) if dense else None
        self.classifier = nn.Linear(hidden, classes)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.dense, self.classifier):
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        if self.dense is not None:
            states = torch.tanh(self.dense(self.dropout(states)))
        return self.classifier(self.dropout(states))


class TextModel(nn.Module):
    """Token ids to class logits: [B, C] for texts (mean-pooled), [B, T, C] for tokens."""

    def __init__(self, encoder: nn.Module, head: Head, is_token_task: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.is_token_task = is_token_task

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        if self.is_token_task:
            return self.head(states).float()
        weights = mask.unsqueeze(-1).to(states.dtype)
        # The mean runs over all tokens, [CLS] and [SEP] included, as the base model was trained.
        pooled = (states * weights).sum(1).float() / weights.sum(1).float()
        return self.head(pooled).float()


def new_model(classes: int, is_token_task: bool, dense: bool) -> TextModel:
    """The base encoder with a fresh adapter and head; nothing else is trained."""
    base = load_base()
    config = LoraConfig(
        r=LORA_RANK,
        lora_alpha=LORA_ALPHA,
        lora_dropout=LORA_DROPOUT,
        target_modules=LORA_TARGETS,
        bias="none",
    )
    hidden = base.config.hidden_size
    return TextModel(get_peft_model(base, config), Head(hidden, classes, dense), is_token_task)


def save_model(model: TextModel, card: Path) -> None:
    """Writes adapter and head into a card's folder."""
    encoder = model.encoder
    if not isinstance(encoder, PeftModel):
        raise TypeError("only a model with an adapter can be saved")
    (card / ADAPTER_FILE).parent.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(encoder)
    adapter = {key: value.half().contiguous() for key, value in state.items()}
    unexpected = [key for key in adapter if not key.startswith("base_model.model.encoder.layer.")]
    if unexpected:
        raise ValueError(f"adapter keys outside the encoder's layers: {unexpected}")
    save_file(adapter, card / ADAPTER_FILE, metadata={"format": "pt"})
    config = encoder.peft_config["default"]
    config.base_model_name_or_path = MODEL_NAME
    config.revision = MODEL_REVISION
    config.inference_mode = True
    # PEFT writes sets in hash order; a sorted list keeps the file the same from run to run.
    config.target_modules = sorted(LORA_TARGETS)
    config.save_pretrained(str((card / ADAPTER_FILE).parent))
    head = {key: value.float().contiguous() for key, value in model.head.state_dict().items()}
    save_file(head, card / HEAD_FILE, metadata={"format": "pt"})
    for name in (ADAPTER_FILE, HEAD_FILE):
        (card / name).chmod(0o644)  # safetensors writes files that only their owner can read


def load_model(card: Path, is_token_task: bool) -> TextModel:
    """The model as it is served: float32, the saved adapter merged into the base weights."""
    adapted = PeftModel.from_pretrained(load_base(), str((card / ADAPTER_FILE).parent))
    weights = load_file(card / HEAD_FILE)
    classes, hidden = weights["classifier.weight"].shape
    head = Head(hidden, classes, dense="dense.weight" in weights)
    head.load_state_dict(weights)
    return TextModel(adapted.merge_and_unload(), head, is_token_task).float().eval()


def load_base() -> BertModel:
    return BertModel.from_pretrained(
        base_folder(), add_pooling_layer=False, attn_implementation="eager"
    )

"""One training run: LoRA adapter and head on a card's train split, selected on its dev split."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional

from . import evaluate
from .as_read import Read
from .data import Batch, Example, Gazetteer, Item, Tagged, augment, batches, encode
from .model import TextModel, new_model
from .structured import Drawer, Layouts, drawn_as_read, drawn_for_training, without


# One name of so many is for dev.
DEV_NAMES = 12
DEV_TEXTS = 100


@dataclass(frozen=True)
class TaskConfig:
    """What differs between the tasks. Rates are for AdamW; the head starts from nothing, so it learns faster."""

    card: str
    is_token_task: bool
    dense: bool
    epochs: int
    adapter_rate: float = 5e-4
    head_rate: float = 1e-3
    batch_size: int = 16
    label_smoothing: float = 0.05
    weight_decay: float = 0.01
    warmup: float = 0.08
    patience: int = 5
    # Texts that are no prose, for each text of the train split in an epoch, if the card has layouts for them.
    structured: float = 1.5
    # The card whose texts are of none of the classes, for their probabilities one by one.
    everyday: str | None = None


TASKS = {
    "sentiment": TaskConfig("sentiment-v3", is_token_task=False, dense=True, epochs=12),
    "documents": TaskConfig(
        "text-classifier-v2", is_token_task=False, dense=True, epochs=14, everyday="sentiment-v3"
    ),
    "entities": TaskConfig("ner-v2", is_token_task=True, dense=False, epochs=14),
}


def seed_everything(seed: int) -> random.Random:
    """Seeds torch, and returns the generator that shuffling and augmentation draw from."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    return random.Random(seed)


def train(
    config: TaskConfig,
    splits: dict[str, list[Item]],
    gazetteer: Gazetteer,
    layouts: Layouts,
    tokenizer: Tokenizer,
    labels: Sequence[str],
    seed: int,
) -> TextModel:
    """Trains until the dev score stops improving and returns the best epoch's model.

    With layouts, the dev score is the mean of that of the dev split and that of texts drawn from them. Of
    epochs with the same dev score, the one with the lower dev loss is kept.
    """
    rng = seed_everything(seed)
    model = new_model(len(labels), config.is_token_task, config.dense)
    structured = round(config.structured * len(splits["train"])) if layouts else 0
    optimizer, schedule = optimizer_for(model, config, len(splits["train"]) + structured)
    dev = [encode(tokenizer, item, labels) for item in splits["dev"]]
    drawer = drawer_of(splits["train"], layouts, gazetteer, kept=False, seed=seed)
    dev_reads = drawn_for_dev(splits["dev"], layouts, gazetteer) if layouts else []
    best_key, best_state, best_epoch = (-1.0, 0.0), trainable_state(model), 0
    for epoch in range(1, config.epochs + 1):
        started = time.monotonic()
        items = augment(splits["train"], gazetteer, rng)
        items += drawn_for_training(drawer, structured)
        examples = [encode(tokenizer, item, labels) for item in items]
        loss = train_epoch(model, config, optimizer, schedule, examples, rng)
        scores = evaluate.score(model, tokenizer, splits["dev"], labels)
        if dev_reads:
            read_scores = evaluate.score_read(model, tokenizer, dev_reads, labels)
            print(
                f"dev score of prose {scores['main']:.4f}, of other texts {read_scores['main']:.4f}"
            )
            scores["main"] = (scores["main"] + read_scores["main"]) / 2
        dev_loss = mean_loss(model, config, dev)
        print(
            f"epoch {epoch:2}  train loss {loss:.4f}  dev loss {dev_loss:.4f}  "
            f"dev score {scores['main']:.4f}  {time.monotonic() - started:.0f} s",
            flush=True,
        )
        if (scores["main"], -dev_loss) > best_key:
            best_key, best_state, best_epoch = (
                (scores["main"], -dev_loss),
                trainable_state(model),
                epoch,
            )
        elif epoch - best_epoch >= config.patience:
            break
    model.load_state_dict(best_state, strict=False)
    print(f"kept epoch {best_epoch}")
    return model


def drawer_of(
    items: Sequence[Item], layouts: Layouts, gazetteer: Gazetteer, kept: bool, seed: int
) -> Drawer:
    """Draws texts that are no prose, with the names kept for dev or with all others."""
    running = [item for item in items if isinstance(item, Tagged)]
    return Drawer(layouts, without(gazetteer, DEV_NAMES, kept), running, random.Random(seed))


def drawn_for_dev(items: Sequence[Item], layouts: Layouts, gazetteer: Gazetteer) -> list[Read]:
    """Texts that select the epoch, the same in every run."""
    return drawn_as_read(drawer_of(items, layouts, gazetteer, kept=True, seed=0), DEV_TEXTS)


def optimizer_for(
    model: TextModel, config: TaskConfig, examples: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW with linear warm-up and linear decay over all steps of the run."""
    adapter = [p for p in model.encoder.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": adapter, "lr": config.adapter_rate},
            {"params": list(model.head.parameters()), "lr": config.head_rate},
        ],
        weight_decay=config.weight_decay,
    )
    steps = config.epochs * -(-examples // config.batch_size)
    warmup = max(1, int(steps * config.warmup))

    def factor(step: int) -> float:
        return min((step + 1) / warmup, max(0.0, (steps - step) / max(1, steps - warmup)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def train_epoch(
    model: TextModel,
    config: TaskConfig,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    examples: Sequence[Example],
    rng: random.Random,
) -> float:
    """One pass over the examples; the mean loss of its batches."""
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    losses = []
    for batch in batches(examples, config.batch_size, rng):
        # 1.65 times as fast as float32 on CPUs with bf16 dot products; weights and head stay float32.
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(batch.ids, batch.mask)
        loss = cross_entropy(logits, batch, config.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def cross_entropy(logits: torch.Tensor, batch: Batch, smoothing: float = 0.0) -> torch.Tensor:
    return functional.cross_entropy(
        logits.flatten(0, -2), batch.targets.flatten(), label_smoothing=smoothing
    )


@torch.inference_mode()
def mean_loss(model: TextModel, config: TaskConfig, examples: Sequence[Example]) -> float:
    """Unsmoothed loss, averaged over batches in a fixed order."""
    model.eval()
    order = random.Random(0)
    losses = [
        cross_entropy(model(batch.ids, batch.mask), batch).item()
        for batch in batches(examples, config.batch_size, order)
    ]
    return sum(losses) / len(losses)


def trainable_state(model: TextModel) -> dict[str, torch.Tensor]:
    """A copy of the adapter's and the head's weights."""
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }

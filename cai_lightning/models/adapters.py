"""What a stage trains: every weight, or a low-rank adapter (LoRA, DoRA) on frozen weights, put on and switched off.

Adapters are injected into the model itself, each under a name, so that whatever reads the model reads them too. Those
that are active add up; only the one called `TRAINED` learns.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

if TYPE_CHECKING:
    from peft import LoraConfig

TRAINED = "trained"


def full(model: PreTrainedModel, *, seed: int) -> None:  # noqa: ARG001
    """Makes every weight train, the adapters of earlier stages folded into them.

    Raises ValueError unless the weights are float32: smaller numbers round small updates away.
    """
    if quantised(model) or model.dtype != torch.float32:
        dtype = "nf4" if quantised(model) else str(model.dtype).removeprefix("torch.")
        raise ValueError(
            f"base_dtype is {dtype}, but adapter=full trains every weight, in float32; take base_dtype=float32, or "
            "adapter=lora on frozen weights"
        )
    fold(model)
    model.requires_grad_(True)


def lora(
    model: PreTrainedModel,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    targets: list[str] | None,
    rslora: bool,
    dora: bool,
    merge: bool,
    seed: int,
) -> None:
    """Puts a new adapter on linear layers of a model and freezes all else; at first it changes nothing.

    W x becomes W x + alpha / rank * B A x (alpha / sqrt(rank) with `rslora`, Kalajdzievski 2023), and with `dora` the
    norms of W's rows learn apart (Liu et al. 2024). `targets` are layer names such as "q_proj"; null takes every
    linear layer between embedding and head. With `merge` the adapters of earlier stages are first folded into the
    weights; without it, and always on 4-bit weights, they stay, frozen. The start is a function of `seed` alone.
    Sources: Hu et al. 2021; Dettmers et al. 2023. Raises ValueError on a target that the model lacks.
    """
    from peft import LoraConfig

    if merge and not quantised(model):
        fold(model)
    if dora and names(model):
        raise ValueError("adapter.dora: DoRA rescales dense weights, so it goes on no adapter; fold that (merge: true)")
    found = {path.rpartition(".")[2]: layer for path, layer in linear_layers(model)}
    wanted = sorted(found) if targets is None else sorted(set(targets))
    if missing := [name for name in wanted if name not in found]:
        raise ValueError(f"adapter.targets: no linear layer is called {missing[0]!r}; there are {', '.join(found)}")
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=wanted,
        fan_in_fan_out=any(isinstance(found[name], Conv1D) for name in wanted),
        use_rslora=rslora,
        use_dora=dora,
    )
    inject(model, config, TRAINED, seed=seed)
    for path, weight in model.named_parameters():
        weight.requires_grad_(f".{TRAINED}." in path)


def inject(model: PreTrainedModel, config: LoraConfig, name: str, *, seed: int) -> None:
    """Adds a frozen float32 adapter beside those that are there; all of them are active afterwards."""
    from peft import inject_adapter_in_model

    flags = {id(weight): weight.requires_grad for weight in model.parameters()} if names(model) else {}
    configs = {**getattr(model, "peft_config", {}), name: config}
    model.__dict__.pop("peft_config", None)  # PEFT warns where it finds one
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model, adapter_name=name)
    model.peft_config = configs
    model.train(model.training)
    activate(model, list(configs))
    for path, weight in model.named_parameters():
        weight.requires_grad_(flags.get(id(weight), False))
        if f".{name}." in path:
            weight.data = weight.data.float()
    if config.use_dora:
        _measure(model, name)


def _measure(model: PreTrainedModel, name: str) -> None:
    """Sets DoRA's magnitudes to the weights' norms in float32: PEFT rounds them to the weights' dtype."""
    for layer in _layers(model):
        if name in layer.lora_A:
            magnitude = layer.lora_magnitude_vector[name]
            weights = {"lora_A": layer.lora_A[name].weight, "lora_B": layer.lora_B[name].weight}
            magnitude.update_layer(base_layer=layer.get_base_layer(), **weights, scaling=layer.scaling[name])
            magnitude.requires_grad_(False)


def names(model: PreTrainedModel) -> list[str]:
    """The adapters on a model, the first one first."""
    return list(getattr(model, "peft_config", {}))


def activate(model: nn.Module, wanted: Sequence[str]) -> None:
    """Makes just these adapters count. What may train stays as it is: PEFT's own switch would change it."""
    for layer in _layers(model):
        flags = [(weight, weight.requires_grad) for weight in layer.parameters()]
        layer.set_adapter(list(wanted), inference_mode=True)
        for weight, flag in flags:
            weight.requires_grad_(flag)


@contextlib.contextmanager
def only(model: nn.Module, wanted: Sequence[str]) -> Iterator[None]:
    """Just these adapters count inside; afterwards those that did before, also after an error."""
    before = [(layer, layer.active_adapters) for layer in _layers(model)]
    activate(model, wanted)
    try:
        yield
    finally:
        for layer, active in before:
            activate(layer, active)


def fold(model: PreTrainedModel) -> None:
    """Makes the adapters part of the dense weights, in their dtype: W plus what each adds to W; all may train then."""
    for path, layer in list(model.named_modules()):
        if _adapted(layer):
            base = layer.get_base_layer()
            original, added = base.weight.data.clone(), torch.zeros_like(base.weight.data)
            found = [name for name in names(model) if name in layer.lora_A]
            for name in found:
                layer.merge(adapter_names=[name])
                # DoRA's norm is that of the base, not of a base that another adapter has changed
                if len(found) > 1:
                    added += base.weight.data - original
                    base.weight.data.copy_(original)
                    layer.merged_adapters.clear()
            base.weight.data += added
            parent, _, last = path.rpartition(".")
            setattr(model.get_submodule(parent), last, base)
    if names(model):
        del model.peft_config
        model.requires_grad_(True)


def quantised(model: PreTrainedModel) -> bool:
    """Whether the weights are 4-bit numbers, which neither an update nor an adapter can be written into."""
    return bool(getattr(model, "is_loaded_in_4bit", False))


def linear_layers(model: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    """The linear layers by their path, without what adapters added, the map to the vocabulary and a score."""
    heads = {id(model.get_output_embeddings()), id(getattr(model, "score", None))}
    inside = tuple(f"{path}." for path, layer in model.named_modules() if _adapted(layer))
    found = []
    for path, layer in model.named_modules():
        base = layer.get_base_layer() if _adapted(layer) else layer
        if isinstance(base, nn.Linear | Conv1D) and id(base) not in heads and not path.startswith(inside):
            found.append((path, base))
    return found


def _layers(model: nn.Module) -> list[Any]:
    return [layer for layer in model.modules() if _adapted(layer)]


def _adapted(layer: nn.Module) -> bool:
    return hasattr(layer, "lora_A")

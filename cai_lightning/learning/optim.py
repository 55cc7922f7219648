"""Optimizers and schedules as the recipe names them; a module calls them with itself and with its number of steps."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR

OptimizerFactory = Callable[[nn.Module], Optimizer]
ScheduleFactory = Callable[[Optimizer, int], LambdaLR]

# Maps from and to the vocabulary or a score: Muon is for the hidden layers between them.
_HEADS = ("lm_head", "embed_out", "score", "value_head")


def adamw(module: nn.Module, *, lr: float, betas: tuple[float, float], eps: float, weight_decay: float) -> AdamW:
    """AdamW over what the module trains; matrices decay, norms and biases do not."""
    groups = _decay_groups(_trained(module), weight_decay)
    return _fused(groups, lr, betas, eps)


def rmsprop(module: nn.Module, *, lr: float, alpha: float, eps: float) -> RMSprop:
    """RMSprop over what the module trains, as Rafailov et al. 2023 trained DPO."""
    return RMSprop(_trained(module), lr=lr, alpha=alpha, eps=eps)


def muon_adamw(
    module: nn.Module,
    *,
    muon_lr: float,
    muon_momentum: float,
    muon_weight_decay: float,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> Optimizer:
    """Muon for the weights of hidden linear layers, AdamW for everything else, as one optimizer.

    Raises ImportError where torch has no Muon. Source: Jordan et al. 2024 (kellerjordan.github.io/posts/muon).
    """
    muon = getattr(torch.optim, "Muon", None)
    if muon is None:
        raise ImportError(f"torch {torch.__version__} has no Muon: use torch >= 2.9 or the optimizer `adamw`")
    hidden = {
        id(layer.weight)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and name.rpartition(".")[2] not in _HEADS
    }
    # A head that is tied to an embedding is one parameter, and no hidden one.
    hidden -= {id(layer.weight) for layer in module.modules() if isinstance(layer, nn.Embedding)}
    trained = _trained(module)
    matrices = [p for p in trained if id(p) in hidden]
    others = [p for p in trained if id(p) not in hidden]
    return Together(
        muon(matrices, lr=muon_lr, momentum=muon_momentum, weight_decay=muon_weight_decay),
        _fused(_decay_groups(others, weight_decay), lr, betas, eps),
    )


class Together(Optimizer):
    """Several optimizers as one: one step, one state, and their parameter groups in a row for a schedule to scale."""

    def __init__(self, *parts: Optimizer) -> None:
        self._parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._join()

    def _join(self) -> None:
        self.param_groups = [group for part in self._parts for group in part.param_groups]
        for part in self._parts:
            self.state.update(part.state)
            part.state = self.state

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step of every part; the closure, if any, runs once, before them."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the state over, then ties the parts to it again: loading replaces groups and state."""
        super().load_state_dict(state_dict)
        groups = iter(self.param_groups)
        for part in self._parts:
            part.param_groups = [next(groups) for _ in part.param_groups]
            part.state = self.state


def warmup_linear(optimizer: Optimizer, total_steps: int, *, warmup_steps: int, final_fraction: float) -> LambdaLR:
    """The learning rate rises to its peak in `warmup_steps`, then falls linearly to `final_fraction` of it."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return final_fraction + (1 - final_fraction) * max(0.0, 1 - done)

    return LambdaLR(optimizer, factor)


def cosine(optimizer: Optimizer, total_steps: int, *, warmup_fraction: float, final_fraction: float) -> LambdaLR:
    """The learning rate rises to its peak in a share of all steps, then falls as half a cosine to `final_fraction`."""
    return _fallen(
        optimizer, total_steps, warmup_fraction, final_fraction, lambda done: (1 + math.cos(math.pi * done)) / 2
    )


def linear(optimizer: Optimizer, total_steps: int, *, warmup_fraction: float, final_fraction: float) -> LambdaLR:
    """The learning rate rises to its peak in a share of all steps, then falls linearly to `final_fraction` of it."""
    return _fallen(optimizer, total_steps, warmup_fraction, final_fraction, lambda done: 1 - done)


def piecewise(optimizer: Optimizer, total_steps: int, *, shares: Sequence[float], factors: Sequence[float]) -> LambdaLR:
    """The learning rate is `factors` of its peak after these `shares` of all steps, and linear between them.

    Raises ValueError where the shares do not rise from 0 to 1, one for each factor.
    """
    if (
        len(shares) < 2
        or len(shares) != len(factors)
        or not (shares[0] == 0 and shares[-1] == 1 and sorted(set(shares)) == list(shares))
    ):
        raise ValueError(f"schedule: {list(shares)} must rise from 0 to 1, with one of {list(factors)} for each")

    def factor(step: int) -> float:
        done = min(1.0, step / max(1, total_steps - 1))
        after = min(bisect_right(shares, done), len(shares) - 1)
        along = (done - shares[after - 1]) / (shares[after] - shares[after - 1])
        return factors[after - 1] + along * (factors[after] - factors[after - 1])

    return LambdaLR(optimizer, factor)


def _fallen(
    optimizer: Optimizer, total_steps: int, warmup_fraction: float, final: float, shape: Callable[[float], float]
) -> LambdaLR:
    warmup = math.ceil(total_steps * warmup_fraction)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return final + (1 - final) * shape(min(1.0, (step - warmup) / max(1, total_steps - warmup)))

    return LambdaLR(optimizer, factor)


def constant(optimizer: Optimizer, total_steps: int, *, warmup_steps: int) -> LambdaLR:  # noqa: ARG001
    """The learning rate rises to its peak in `warmup_steps` and stays; `total_steps` is for other schedules."""
    return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / (warmup_steps + 1)))


def configured(
    module: nn.Module, optimizer: OptimizerFactory, schedule: ScheduleFactory, total_steps: int
) -> dict[str, Any]:
    """What a LightningModule's `configure_optimizers` returns: the optimizer, and its schedule moved every step."""
    built = optimizer(module)
    return {
        "optimizer": built,
        "lr_scheduler": {"scheduler": schedule(built, total_steps), "interval": "step"},
    }


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


def _fused(groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], eps: float) -> AdamW:
    """AdamW in one pass over each weight, with gradients that come unscaled: Lightning clips no others."""
    optimizer = AdamW(groups, lr=lr, betas=(betas[0], betas[1]), eps=eps, fused=True)
    optimizer._step_supports_amp_scaling = False
    return optimizer


def _decay_groups(params: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    params = list(params)
    groups = [
        {"params": [p for p in params if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]

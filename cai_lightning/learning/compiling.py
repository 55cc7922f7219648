"""Layers of language models as compiled code while a fit lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import AttentionInterface

from cai_lightning.learning.processes import layers_of
from cai_lightning.models import attention


@contextmanager
def compiled(module: nn.Module, wanted: bool) -> Iterator[None]:
    """Inside, if wanted, each layer of the module's language models runs compiled, but for attention over packed rows.

    Compiled for any number of tokens, once for all layers; what it costs is spent in the first steps.
    """
    layers = layers_of(module) if wanted else []
    if layers:  # its calls follow the rows of a batch, which compiled code would have to be made anew for
        apart = torch.compiler.disable(attention.attend_packed)  # type: ignore[no-untyped-call]
        AttentionInterface.register(attention.NAME, apart)
    for layer in layers:
        layer.compile(dynamic=True)
    try:
        yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None
        if layers:
            AttentionInterface.register(attention.NAME, attention.attend_packed)

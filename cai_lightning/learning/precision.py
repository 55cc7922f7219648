"""Number formats of products on this machine: measured before they are used, and said where they would be slow."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch.nn.functional import linear

Products = Literal["default", "onednn"]

# Mean relative error of a float32 product of 512 terms: rounding gives 3e-7, bfloat16 parts 3e-3.
_LARGEST_ERROR = 2e-6

log = logging.getLogger("cai")


@contextmanager
def products(wanted: Products) -> Iterator[None]:
    """Float32 products on a CPU by oneDNN inside, where that is wanted and still is float32; by default MKL's.

    The setting that asks for oneDNN allows it bfloat16 parts, which chips with AMX use: so its error is measured first,
    and where it is not that of float32 the default stays, with a warning.
    """
    mkldnn: Any = torch.backends.mkldnn
    matmul = mkldnn.matmul
    before = matmul.fp32_precision
    try:
        if wanted == "onednn":
            matmul.fp32_precision = "bf16"
            if not (error := product_error()) <= _LARGEST_ERROR:
                log.warning("products=onednn: its error is %.1e here, not float32's; the default stays", error)
                matmul.fp32_precision = before
        yield
    finally:
        matmul.fp32_precision = before


def product_error() -> float:
    """The mean relative error of float32 products as they are made now, against float64."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(64, 512, generator=generator) for _ in range(2))
    exact = linear(a.double(), b.double())
    return float((linear(a, b).double() - exact).abs().mean() / exact.abs().mean())


def warn_if_slow(precision: str, accelerator: str) -> None:
    """Says it where bfloat16 is asked of a CPU that has no instructions for it."""
    if accelerator == "cpu" and precision.startswith("bf16") and not _multiplies_bfloat16():
        log.warning("precision %s: this CPU only emulates bfloat16, which is slow; 32-true is faster here", precision)


def _multiplies_bfloat16() -> bool:
    return (
        any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        or torch.backends.mps.is_built()
    )

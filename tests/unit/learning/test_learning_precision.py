import logging

import pytest
import torch
from torch.nn.functional import linear

from cai_lightning.data.batching import best_fit
from cai_lightning.data.sft import SFTData, SFTRow
from cai_lightning.learning import precision
from cai_lightning.learning.fit import fit
from cai_lightning.learning.sft import SFTModule

MATMUL = torch.backends.mkldnn.matmul


@pytest.fixture(autouse=True)
def logged(caplog):
    caplog.set_level(logging.WARNING, logger="cai")
    return caplog


def test_a_float32_product_is_told_from_one_of_bfloat16_parts():
    """Rounding of 24 bits and of 8 bits: 2^-24 = 6e-8 and 2^-8 = 4e-3 a factor."""
    assert precision.product_error() < precision._LARGEST_ERROR / 3

    def rounded(a, b):
        return linear(a.bfloat16(), b.bfloat16()).to(a.dtype) if a.dtype == torch.float32 else linear(a, b)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "linear", rounded)
        assert precision.product_error() > 100 * precision._LARGEST_ERROR


@pytest.mark.parametrize("wanted", ["default", "onednn"])
def test_the_switch_is_turned_back_also_after_an_error(wanted):
    before = MATMUL.fp32_precision
    with precision.products(wanted):
        pass
    assert MATMUL.fp32_precision == before
    with pytest.raises(RuntimeError), precision.products(wanted):
        raise RuntimeError
    assert MATMUL.fp32_precision == before


@pytest.mark.parametrize(("error", "taken"), [(3e-7, True), (3e-3, False), (float("nan"), False)])
def test_products_that_are_not_float32_are_not_taken(monkeypatch, logged, error, taken):
    monkeypatch.setattr(precision, "product_error", lambda: error)
    before = MATMUL.fp32_precision
    with precision.products("onednn"):
        assert (MATMUL.fp32_precision != before) == taken
    assert ("the default stays" in logged.text) != taken


def test_by_default_nothing_is_measured_or_switched(monkeypatch):
    monkeypatch.setattr(precision, "product_error", lambda: pytest.fail("was measured"))
    before = MATMUL.fp32_precision
    with precision.products("default"):
        assert MATMUL.fp32_precision == before


def test_either_maker_of_products_teaches_the_same(llama, recipe, trainer):
    ends = []
    rows = [SFTRow([3 + i, *range(8, 9 + i), 1], [0.0] + [1.0] * (i + 2)) for i in range(4)]
    for products in ("default", "onednn"):
        plain = recipe | {"optimizer": lambda module: torch.optim.SGD(module.parameters(), lr=0.1)}
        module = SFTModule(llama(), **plain)
        data = SFTData(rows, [], plan=best_fit, batch_tokens=16, accumulate=1, route="packed", seed=0)
        fit(module, data, epochs=3, **(trainer | {"products": products}))
        ends.append(torch.cat([weight.detach().flatten() for weight in module.parameters()]))
    assert (ends[0] - ends[1]).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("format", "accelerator", "able", "said"),
    [
        ("bf16-mixed", "cpu", False, True),
        ("bf16-mixed", "cpu", True, False),
        ("32-true", "cpu", False, False),
        ("bf16-mixed", "cuda", False, False),
    ],
)
def test_bfloat16_is_called_slow_only_where_a_cpu_emulates_it(monkeypatch, logged, format, accelerator, able, said):
    monkeypatch.setattr(precision, "_multiplies_bfloat16", lambda: able)
    precision.warn_if_slow(format, accelerator)
    assert ("32-true is faster here" in logged.text) == said

"""DPO through its stages on a minute random model: a reference made beforehand, and one made batch by batch."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from cai_lightning.data.batching import best_fit
from cai_lightning.data.pairs import PairData
from cai_lightning.learning.fit import fit
from cai_lightning.learning.losses import dpo_loss
from cai_lightning.learning.optim import constant
from cai_lightning.learning.processes import automatic
from cai_lightning.microworld.vocabulary import tokenizer
from cai_lightning.models.adapters import full, lora
from cai_lightning.models.causal import load_causal, new_llama, save_causal
from cai_lightning.stages import dpo, reference
from cai_lightning.text.dialogue import human
from cai_lightning.text.records import Label, Prompt, Reference, read_rows, write_rows

READ: dict[str, Any] = {"plan": best_fit, "batch_tokens": 64, "share": 4, "route": "packed"}
LORA = partial(lora, rank=4, alpha=8.0, dropout=0.0, targets=None, rslora=False, dora=False, merge=False)
ASKED = ("how do i bake bread ?", "how do i bake a cake ?", "what ?", "how do i strike your neighbour ?")


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    words = tokenizer()
    shape = {"hidden_size": 32, "layers": 2, "heads": 2, "intermediate_size": 64, "max_positions": 64}
    model = new_llama(vocab_size=len(words), **shape, tie=True, pad_id=0, eos_id=1, seed=0)
    save_causal(model, words, tmp_path / "policy", dtype="float32")
    return tmp_path / "policy"


@pytest.fixture
def labels(tmp_path: Path, make_label: Callable[..., Label]) -> dict[str, Path]:
    rows = [
        make_label(
            str(number),
            prompt=Prompt(id=str(number), dialogue=human(text), source="test", kind="benign", cluster="c"),
            a="sure .",
            b="no , sorry .",
            p_a=(0.9, 0.2)[number % 2],
        )
        for number, text in enumerate(ASKED)
    ]
    (tmp_path / "labels").mkdir()
    write_rows(tmp_path / "labels", rows)
    return {"labels": tmp_path / "labels"}


def referred(out: Path, policy: Path, labels: dict[str, Path], **changes: Any) -> Path:
    out.mkdir()
    given = {"base_dtype": "float32", "merge": True, "max_tokens": 32, "chunk": 3, "precision": "32-true"}
    reference.run(out, policy=policy, labels=labels, **(given | READ | changes))
    return out


def learned(out: Path, policy: Path, labels: dict[str, Path], made: Path | None, adapter: Any) -> torch.Tensor:
    """The logits of the policy that was trained."""
    out.mkdir()
    settings: dict[str, Any] = {"clip": 1.0, "precision": "32-true", "products": "default", "accumulate": 1}
    settings |= {"checkpoint_activations": False, "compile": False, "log_every": 1, "devices": 1, "strategy": automatic}
    dpo.run(
        out,
        policy=policy,
        reference=made,
        labels=labels,
        limits={"labels": None},
        part=None,
        weights={"labels": 1.0},
        loss=partial(dpo_loss, beta=0.5),
        adapter=adapter,
        base_dtype="float32",
        optimizer=lambda module: torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.5),
        schedule=partial(constant, warmup_steps=0),
        data=partial(PairData, accumulate=1, **READ),
        fit=partial(fit, epochs=3, **settings),
        max_tokens=32,
        first_loss_tolerance=1e-4,
        dtype="float32",
        seed=0,
    )
    with torch.no_grad():
        logits: torch.Tensor = load_causal(out, dtype="float32")[0](torch.arange(3, 20)[None]).logits
    return logits


@pytest.mark.parametrize("adapter", [full, LORA], ids=["full", "lora"])
def test_a_reference_made_batch_by_batch_teaches_what_one_made_beforehand_does(
    tmp_path: Path, policy: Path, labels: dict[str, Path], adapter: Any
) -> None:
    made = referred(tmp_path / "reference", policy, labels)
    start = load_causal(policy, dtype="float32")[0](torch.arange(3, 20)[None]).logits
    cached = learned(tmp_path / "cached", policy, labels, made, adapter)
    live = learned(tmp_path / "live", policy, labels, None, adapter)
    assert (cached - start).abs().max() > 1e-3
    assert (cached - live).abs().max() < 1e-5


def test_references_do_not_depend_on_how_rows_are_read(tmp_path: Path, policy: Path, labels: dict[str, Path]) -> None:
    found = []
    for number, changes in enumerate(({}, {"share": 0}, {"route": "padded"}, {"chunk": 1}, {"batch_tokens": 32})):
        folder = referred(tmp_path / str(number), policy, labels, **changes)
        found.append([(row.id, row.logp_a, row.logp_b) for row in read_rows(folder, Reference)])
    assert [id for id, _, _ in found[0]] == ["0", "1", "2", "3"]
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert one[0] == two[0] and one[1:] == pytest.approx(two[1:], rel=1e-5)

"""KTO and the losses without a reference through their stages, on a minute random model."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from cai_lightning.data.batching import best_fit
from cai_lightning.data.pairs import PairData
from cai_lightning.data.unpaired import UnpairedData
from cai_lightning.learning.fit import fit
from cai_lightning.learning.optim import constant
from cai_lightning.learning.processes import automatic
from cai_lightning.learning.reference_free import orpo_loss, simpo_loss
from cai_lightning.learning.unpaired_losses import kto_loss
from cai_lightning.microworld.vocabulary import tokenizer
from cai_lightning.models.adapters import full, lora
from cai_lightning.models.causal import load_causal, new_llama, save_causal
from cai_lightning.stages import dpo, kto, memory
from cai_lightning.stages.estimates import Estimate
from cai_lightning.stages.shapes import Shape
from cai_lightning.text.dialogue import human
from cai_lightning.text.records import Label, Prompt, Rating, write_rows

READ: dict[str, Any] = {"plan": best_fit, "batch_tokens": 64, "route": "packed", "accumulate": 1}
LORA = partial(lora, rank=4, alpha=8.0, dropout=0.0, targets=None, rslora=False, dora=False, merge=False)
ASKED = ("how do i bake bread ?", "how do i bake a cake ?", "what ?", "how do i strike your neighbour ?")
KTO = partial(kto_loss, beta=0.5, desirable_weight=1.5, undesirable_weight=1.0)


def prompt(number: int) -> Prompt:
    return Prompt(id=str(number), dialogue=human(ASKED[number]), source="test", kind="benign", cluster="c")


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    words = tokenizer()
    shape = {"hidden_size": 32, "layers": 2, "heads": 2, "intermediate_size": 64, "max_positions": 64}
    model = new_llama(vocab_size=len(words), **shape, tie=True, pad_id=0, eos_id=1, seed=0)
    save_causal(model, words, tmp_path / "policy", dtype="float32")
    return tmp_path / "policy"


@pytest.fixture
def labels(tmp_path: Path, make_label: Callable[..., Label]) -> dict[str, Path]:
    """Of two sources; whoever asks, "sure ." is the better reply."""
    folders = {}
    for name, numbers in (("ai", (0, 1)), ("human", (2, 3))):
        rows = [
            make_label(name + str(number), prompt=prompt(number), a="sure .", b="no , sorry .", p_a=0.95)
            for number in numbers
        ]
        folders[name] = tmp_path / name
        folders[name].mkdir()
        write_rows(folders[name], rows)
    return folders


@pytest.fixture
def ratings(tmp_path: Path) -> dict[str, Path]:
    """Three replies of which two are good."""
    replies = (("sure .", 1.0), ("no , sorry .", 0.0), ("sure .", 0.75))
    rows = [
        Rating(id=f"r{i}", prompt=prompt(i), text=text, p_desirable=p, source="file", weight=1.0)
        for i, (text, p) in enumerate(replies)
    ]
    (tmp_path / "ratings").mkdir()
    write_rows(tmp_path / "ratings", rows)
    return {"people": tmp_path / "ratings"}


def recipe(labels: dict[str, Path], adapter: Any, *, epochs: int = 8) -> dict[str, Any]:
    """What both stages are given."""
    settings: dict[str, Any] = {"clip": 1.0, "precision": "32-true", "products": "default", "accumulate": 1}
    settings |= {"checkpoint_activations": False, "compile": False, "log_every": 1, "devices": 1, "strategy": automatic}
    return {
        "labels": labels,
        "limits": dict.fromkeys(labels),
        "weights": dict.fromkeys(labels, 1.0),
        "part": None,
        "adapter": adapter,
        "base_dtype": "float32",
        "optimizer": lambda module: torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.5),
        "schedule": partial(constant, warmup_steps=0),
        "fit": partial(fit, epochs=epochs, **settings),
        "max_tokens": 32,
        "first_loss_tolerance": 1e-4,
        "dtype": "float32",
        "seed": 0,
    }


def leads(folder: Path) -> list[float]:
    """By how many nats "sure" leads "no" after each prompt."""
    model, words = load_causal(folder, dtype="float32")
    sure, no = (words.encode(f" {word}")[0] for word in ("sure", "no"))
    found = []
    for text in ASKED:
        with torch.no_grad():
            logits = model(torch.tensor([words.encode(f"\n\nHuman: {text}\n\nAssistant:")])).logits[0, -1]
        found.append((logits[sure] - logits[no]).item())
    return found


def figures(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def taught(out: Path, policy: Path, given: dict[str, Any], ratings: dict[str, Path]) -> Path:
    out.mkdir()
    more = {"rating_limits": dict.fromkeys(ratings), "rating_weights": dict.fromkeys(ratings, 2.0)}
    kto.run(out, policy=policy, ratings=ratings, loss=KTO, data=partial(UnpairedData, kl=True, **READ), **more, **given)
    return out


@pytest.mark.parametrize("adapter", [full, LORA], ids=["full", "lora"])
def test_kto_teaches_which_reply_is_good(
    tmp_path: Path, policy: Path, labels: dict[str, Path], ratings: dict[str, Path], adapter: Any
) -> None:
    out = taught(tmp_path / "out", policy, recipe(labels, adapter, epochs=20), ratings)
    assert min(after - before for after, before in zip(leads(out), leads(policy), strict=True)) > 0.1
    counts = json.loads((out / "counts.json").read_text())
    assert (counts["kept"], counts["too_long"], counts["weightless"]) == (11, 0, 0)
    lines = [line for line in figures(out) if "loss" in line]
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert {"rewards/desirable", "rewards/undesirable", "grad_norm"} <= set().union(*lines, *figures(out))


def test_kto_is_the_same_in_two_runs_and_on_ratings_alone(
    tmp_path: Path, policy: Path, ratings: dict[str, Path]
) -> None:
    given = recipe({}, full)
    folders = [taught(tmp_path / name, policy, given, ratings) for name in ("one", "two")]
    files = [{path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} for folder in folders]
    assert files[0] == files[1] and "metrics.jsonl" in files[0]


def test_kto_of_nothing_is_refused(tmp_path: Path, policy: Path) -> None:
    with pytest.raises(ValueError, match="labels, ratings: hold no row to learn from"):
        taught(tmp_path / "out", policy, recipe({}, full), {})


@pytest.mark.parametrize("adapter", [full, LORA], ids=["full", "lora"])
@pytest.mark.parametrize(
    "loss",
    [partial(simpo_loss, beta=2.0, gamma=1.0), partial(orpo_loss, odds_ratio_weight=1.0)],
    ids=["simpo", "orpo"],
)
def test_a_loss_without_a_reference_loads_none(
    tmp_path: Path, policy: Path, labels: dict[str, Path], monkeypatch: pytest.MonkeyPatch, loss: Any, adapter: Any
) -> None:
    loaded = []
    monkeypatch.setattr(
        "cai_lightning.models.causal.load_causal", lambda *a, **b: (loaded.append(a), load_causal(*a, **b))[1]
    )
    for name in ("adapter_off", "Frozen"):
        monkeypatch.setattr(f"cai_lightning.learning.preference.{name}", None)
    out = tmp_path / "out"
    out.mkdir()
    given = recipe(labels, adapter, epochs=20) | {"loss": loss, "data": partial(PairData, share=4, **READ)}
    dpo.run(out, policy=policy, reference=None, **given)
    assert len(loaded) == 1
    assert min(after - before for after, before in zip(leads(out), leads(policy), strict=True)) > 0.1
    lines = [line for line in figures(out) if "loss" in line]
    assert {"rewards/accuracies/ai", "rewards/accuracies/human"} <= set(lines[0])


def test_a_reference_that_nobody_reads_is_refused(tmp_path: Path, policy: Path, labels: dict[str, Path]) -> None:
    given = recipe(labels, full) | {"loss": partial(simpo_loss, beta=2.0, gamma=1.0), "data": None}
    with pytest.raises(ValueError, match=r"^reference: this loss .*; set stages\.dpo\.reference=null$"):
        dpo.run(tmp_path, policy=policy, reference=tmp_path, **given)


def test_kto_reads_every_text_twice_and_holds_a_whole_reference() -> None:
    shape = Shape(1_000_000, 100, 1, 2, 2, 50, 200, 1000)
    adapters: list[dict[str, Any]] = [{"rank": None}, {"rank": 4, "targets": None}]
    found = []
    for adapter in adapters:
        given = {
            "policy": Estimate(None, shape=shape),
            "labels": {"x": Estimate(10, length=40)},
            "limits": {"x": 8},
            "ratings": {"y": Estimate(5, length=20)},
            "rating_limits": {"y": None},
            "adapter": adapter,
            "base_dtype": "float32",
            "data": {"batch_tokens": 0},
            "fit": {"epochs": 3, "precision": "32-true"},
        }
        found.append(kto.estimate(given))
        base = memory.training(shape, given, 0, head=True)
        assert found[-1].memory == base + (4_000_000 if adapter["rank"] is None else 0)
    # (8 labels of two texts + 5 ratings) x 3 epochs, each text twice
    assert found[0][:3] == (None, 126, 2 * 3 * (8 * 40 + 5 * 20))

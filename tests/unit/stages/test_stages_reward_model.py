"""The reward model's stage on a minute random model: one that starts from another goes on exactly where it stands."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.data.batching import length_buckets
from cai_lightning.data.pairs import PairData
from cai_lightning.learning.fit import fit
from cai_lightning.learning.optim import adamw, constant
from cai_lightning.learning.processes import automatic
from cai_lightning.microworld.vocabulary import tokenizer
from cai_lightning.models.adapters import full, lora
from cai_lightning.models.causal import new_llama, save_causal
from cai_lightning.models.reward import load_reward
from cai_lightning.stages import reward_model
from cai_lightning.text.dialogue import human
from cai_lightning.text.records import Label, Prompt, write_rows

ASKED = [human("how do i bake bread ?"), human("how do i bake a cake ?"), human("what ?")]
REPLIES = ["sure .", "no , sorry .", "i will not help ."]
LORA = partial(lora, rank=4, alpha=8.0, dropout=0.0, targets=None, rslora=False, dora=False)
SHAPE = {"hidden_size": 32, "layers": 2, "heads": 2, "intermediate_size": 64, "max_positions": 128}
ADAPTERS = {"full": full, "folded": partial(LORA, merge=True), "stacked": partial(LORA, merge=False)}


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    words = tokenizer()
    model = new_llama(vocab_size=len(words), **SHAPE, tie=True, pad_id=0, eos_id=1, seed=0)
    save_causal(model, words, tmp_path / "base" / "0", dtype="float32")
    return tmp_path / "base" / "0"


@pytest.fixture
def labels(tmp_path: Path, make_label: Callable[..., Label]) -> Path:
    rows = [
        make_label(
            str(number),
            prompt=Prompt(id=str(number), dialogue=dialogue, source="test", kind="benign", cluster=f"c{number}"),
            a=REPLIES[0],
            b=REPLIES[1 + number % 2],
            p_a=(0.9, 0.2)[number % 2],
        )
        for number, dialogue in enumerate(ASKED)
    ]
    (tmp_path / "labels").mkdir()
    write_rows(tmp_path / "labels", rows)
    return tmp_path / "labels"


def learned(out: Path, policy: Path, labels: Path, *, lr: float, **changes: Any) -> list[float]:
    """The scores of three replies by the reward model that was written."""
    out.mkdir(parents=True)
    settings: dict[str, Any] = {"clip": 1.0, "precision": "32-true", "products": "default", "accumulate": 1}
    settings |= {"checkpoint_activations": False, "compile": False, "log_every": 1, "devices": 1, "strategy": automatic}
    given: dict[str, Any] = {
        "labels": {"labels": labels},
        "limits": {"labels": None},
        "weights": {"labels": 1.0},
        "part": None,
        "marker": None,
        "mean": True,
        "gain": 3.0,
        "head_std": 0.5,
        "centre_coef": 0.001,
        "adapter": full,
        "base_dtype": "float32",
        "max_tokens": 64,
        "checked_labels": 2,
        "score_tolerance": 1e-4,
        "dtype": "float32",
        "seed": 0,
    }
    reward_model.run(
        out,
        policy=policy,
        optimizer=partial(adamw, lr=lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0),
        schedule=partial(constant, warmup_steps=0),
        data=partial(
            PairData,
            accumulate=1,
            plan=partial(length_buckets, multiple=2),
            batch_tokens=256,
            share=0,
            route="packed",
        ),
        fit=partial(fit, epochs=2, **settings),
        **(given | changes),
    )
    model, words = load_reward(out, dtype="float32")
    return model.score_replies(words, ASKED, REPLIES, 3)


@pytest.mark.parametrize("second", ADAPTERS)
@pytest.mark.parametrize("first", ADAPTERS)
def test_one_that_starts_from_another_scores_as_that_until_it_learns(
    tmp_path: Path, policy: Path, labels: Path, first: str, second: str
) -> None:
    """Without a step in between the scores are the same numbers, whatever was trained of either."""
    before = learned(tmp_path / "one" / "0", policy, labels, lr=1e-3, head_std=0.05, adapter=ADAPTERS[first])
    start = tmp_path / "one" / "0"
    still = learned(tmp_path / "two" / "0", start, labels, lr=0.0, adapter=ADAPTERS[second], head_std=9.0)
    assert still == pytest.approx(before, abs=1e-6) and max(before) - min(before) > 0.05
    moved = learned(tmp_path / "three" / "0", start, labels, lr=1e-2, adapter=ADAPTERS[second])
    assert max(abs(one - other) for one, other in zip(moved, before, strict=True)) > 1e-2


def test_what_was_learned_first_is_not_learned_again(tmp_path: Path, policy: Path, labels: Path) -> None:
    """Two epochs on top of two: the margin of the first pair goes on to grow, and does not begin anew."""
    margins = []
    start = policy
    for name in ("one", "two"):
        learned(tmp_path / name / "0", start, labels, lr=2e-3, head_std=0.0)
        start = tmp_path / name / "0"
        model, words = load_reward(start, dtype="float32")
        a, b = model.score_replies(words, ASKED[:1] * 2, REPLIES[:2], 2)
        margins.append(a - b)
    assert 0 < margins[0] < margins[1]


def test_another_reading_than_the_starts_is_refused_before_anything_is_learned(
    tmp_path: Path, policy: Path, labels: Path
) -> None:
    learned(tmp_path / "one" / "0", policy, labels, lr=0.0)
    with pytest.raises(ValueError, match=r"was trained with .*'mean': True.*, and is to go on with .*'mean': False"):
        learned(tmp_path / "two" / "0", tmp_path / "one" / "0", labels, lr=0.0, mean=False)


def test_parts_train_on_labels_that_share_no_prompt(tmp_path: Path, policy: Path, labels: Path) -> None:
    """`printf part/c0 | sha256sum` ends with an even digit, those of c1 and c2 do not."""
    counted = []
    for number in (0, 1):
        out = tmp_path / "part" / str(number)
        learned(out, policy, labels, lr=0.0, part={"number": number, "of": 2})
        counted.append((out / "counts.json").read_text())
    assert '"kept": 1' in counted[0] and '"kept": 2' in counted[1]

"""The regressor's stage on a minute random model: what it writes is a reward model whose scores are ratings."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.data.batching import length_buckets
from cai_lightning.data.unpaired import UnpairedData
from cai_lightning.learning.fit import fit
from cai_lightning.learning.optim import adamw, constant
from cai_lightning.learning.processes import automatic
from cai_lightning.microworld.vocabulary import tokenizer
from cai_lightning.models.adapters import full
from cai_lightning.models.causal import new_llama, save_causal
from cai_lightning.models.reward import load_reward
from cai_lightning.stages import regressor
from cai_lightning.text.dialogue import human
from cai_lightning.text.records import Prompt, Rating, write_rows

ASKED = [human("how do i bake bread ?"), human("how do i bake a cake ?")]
REPLIES = ["sure .", "i will not help ."]
SHAPE = {"hidden_size": 32, "layers": 2, "heads": 2, "intermediate_size": 64, "max_positions": 128}


def learned(out: Path, base: Path, ratings: Path, **changes: Any) -> list[float]:
    out.mkdir(parents=True)
    settings: dict[str, Any] = {"clip": 1.0, "precision": "32-true", "products": "default", "accumulate": 1}
    settings |= {"checkpoint_activations": False, "compile": False, "log_every": 1, "devices": 1, "strategy": automatic}
    given: dict[str, Any] = {
        "policy": base,
        "ratings": {"rated": ratings},
        "limits": {"rated": None},
        "weights": {"rated": 1.0},
        "part": None,
        "undesirable": 4.0,
        "desirable": 0.0,
        "marker": None,
        "mean": True,
        "gain": 3.0,
        "head_std": 0.0,
        "adapter": full,
        "base_dtype": "float32",
        "optimizer": partial(adamw, lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0),
        "schedule": partial(constant, warmup_steps=0),
        "data": partial(
            UnpairedData,
            accumulate=1,
            plan=partial(length_buckets, multiple=2),
            batch_tokens=256,
            route="packed",
            kl=False,
        ),
        "fit": partial(fit, epochs=60, **settings),
        "max_tokens": 64,
        "dtype": "float32",
        "seed": 0,
    }
    regressor.run(out, **(given | changes))
    model, words = load_reward(out, dtype="float32")
    return model.score_replies(words, [ASKED[0]] * 2, REPLIES, 2)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    words = tokenizer()
    save_causal(
        new_llama(vocab_size=len(words), **SHAPE, tie=True, pad_id=0, eos_id=1, seed=0),
        words,
        tmp_path / "base",
        dtype="float32",
    )
    return tmp_path / "base"


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    prompts = [
        Prompt(id=str(n), dialogue=one, source="s", kind="red_team", cluster=str(n)) for n, one in enumerate(ASKED)
    ]
    rows = [
        Rating(
            id=f"{prompt.id}.{n}", prompt=prompt, text=REPLIES[n], p_desirable=(0.25, 1.0)[n], source="s", weight=1.0
        )
        for prompt in prompts
        for n in range(2)
    ]
    (tmp_path / "ratings").mkdir()
    write_rows(tmp_path / "ratings", rows)
    return tmp_path / "ratings"


def test_scores_are_ratings_in_the_units_of_the_config(tmp_path: Path, base: Path, ratings: Path) -> None:
    """Desirable by a quarter is 3 of 4 in harm; with the ends exchanged it is 1."""
    assert learned(tmp_path / "harm" / "0", base, ratings) == pytest.approx([3.0, 0.0], abs=0.2)
    turned = learned(tmp_path / "good" / "0", base, ratings, undesirable=0.0, desirable=4.0)
    assert turned == pytest.approx([1.0, 4.0], abs=0.2)


def test_ratings_that_leave_no_row_are_an_error(tmp_path: Path, base: Path, ratings: Path) -> None:
    with pytest.raises(ValueError, match="ratings: hold no row to learn from"):
        learned(tmp_path / "none" / "0", base, ratings, weights={"rated": 0.0})

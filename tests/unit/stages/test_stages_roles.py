"""PPO's models over one base, and PPO with an adapter through the stage itself, on a minute random model."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from cai_lightning.learning.advantages import FixedKL, generalised
from cai_lightning.learning.alarms import Thresholds
from cai_lightning.learning.combining import mean
from cai_lightning.learning.fit import fit
from cai_lightning.learning.held_out import never
from cai_lightning.learning.optim import adamw, constant
from cai_lightning.learning.policy_losses import by_token
from cai_lightning.learning.processes import automatic
from cai_lightning.learning.scaling import raw
from cai_lightning.learning.transforms import unchanged
from cai_lightning.microworld.vocabulary import tokenizer
from cai_lightning.models.adapters import full, lora, names, only
from cai_lightning.models.causal import load_causal, new_llama, save_causal, save_trained
from cai_lightning.models.logprobs import token_logprobs
from cai_lightning.models.packing import Tree, pack, places
from cai_lightning.models.reward import reward_from_causal, save_reward
from cai_lightning.stages import ppo
from cai_lightning.stages.checks import scores_as_saved
from cai_lightning.stages.roles import Roles, load_roles
from cai_lightning.text.dialogue import human
from cai_lightning.text.records import Prompt, write_rows

torch.set_num_threads(1)

ADAPTER = partial(lora, rank=4, alpha=8.0, dropout=0.0, targets=None, rslora=False, dora=False, merge=False)
HEAD: dict[str, Any] = {"marker": None, "mean": False, "gain": 1.0, "dtype": "float32", "head_std": 1.0, "seed": 3}
SHAPE = {"hidden_size": 32, "layers": 2, "heads": 2, "intermediate_size": 64, "max_positions": 128}
IDS = torch.tensor([[40, 41, 42, 43, 44, 45]])


@pytest.fixture
def base(tmp_path: Path) -> Path:
    words = tokenizer()
    model = new_llama(vocab_size=len(words), **SHAPE, tie=True, pad_id=0, eos_id=1, seed=0)
    save_causal(model, words, tmp_path / "base" / "0", dtype="float32")
    return tmp_path / "base" / "0"


def moved(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data += 0.05 * torch.randn(weight.shape, generator=generator)


def sft(parent: Path, out: Path) -> Path:
    model, words = load_causal(parent, dtype="float32", merge=False)
    ADAPTER(model, seed=2)
    moved(model)
    save_trained(model, words, out, parent=parent, dtype="float32")
    return out


def reward(parent: Path, out: Path, adapter: Any) -> Path:
    model, words = reward_from_causal(parent, adapter=adapter, **HEAD)
    moved(model)
    save_reward(model, words, out, parent=parent, dtype="float32")
    return out


def roles(policy: Path, judge: Path, adapter: Any) -> Roles:
    return load_roles(policy, judge, adapter=adapter, base_dtype="float32", seed=0)


def memory(found: Roles) -> int:
    """All different parameters that the roles hold."""
    parts = (found.policy, found.reference, found.judge)
    return sum(weight.numel() for weight in {weight for part in parts for weight in part.parameters()})


def logps(model: Any) -> torch.Tensor:
    """Of all tokens but the first."""
    packed = pack([Tree(IDS[0, :1], [IDS[0, 1:]])])
    return token_logprobs(model, packed, places(packed), temperature=1.0)


def scores(found: Roles) -> list[float]:
    with only(found.judge.model, found.judge_adapters):
        return found.judge.score_replies(
            found.judge_tokenizer, [human("how do i bake bread ?")] * 2, ["sure .", "no ."], 2
        )


def test_one_base_serves_policy_reference_and_reward_model(base: Path, tmp_path: Path) -> None:
    policy = sft(base, tmp_path / "sft" / "1")
    stacked = reward(base, tmp_path / "reward_model" / "1", ADAPTER)
    found = roles(policy, stacked, ADAPTER)
    size = load_causal(base, dtype="float32")[0].num_parameters()
    # a block: q, k, v, o are 32 -> 32, gate and up 32 -> 64, down 64 -> 32; rank 4
    adapter = 2 * 4 * (4 * (32 + 32) + 3 * (32 + 64))
    assert memory(found) == size + 3 * adapter + 32
    assert names(found.policy) == ["below0", "trained", "judge0"]
    trained = {name for name, weight in found.policy.named_parameters() if weight.requires_grad}
    assert trained and all(".trained." in name for name in trained)
    assert not any(".judge" in name or "score" in name for name in trained)
    assert not found.judge.model.score.weight.requires_grad

    apart = roles(policy, stacked, partial(ADAPTER.func, **(ADAPTER.keywords | {"merge": True})))
    assert memory(apart) > 2 * size and names(apart.policy) == ["trained"]
    assert scores(found) == pytest.approx(scores(apart), abs=1e-4)
    whole = roles(policy, reward(base, tmp_path / "reward_model" / "2", full), ADAPTER)
    assert memory(whole) > 2 * size and whole.judge_adapters == []


def test_the_reference_is_the_policy_of_step_zero_whatever_it_learns(base: Path, tmp_path: Path) -> None:
    policy = sft(base, tmp_path / "sft" / "1")
    judge = reward(base, tmp_path / "reward_model" / "1", ADAPTER)
    start = logps(load_causal(policy, dtype="float32")[0])
    for adapter in (ADAPTER, full):
        found = roles(policy, judge, adapter)

        def reference(found: Roles = found) -> torch.Tensor:
            with only(found.reference, found.reference_adapters):
                return logps(found.reference)

        before = reference()
        torch.testing.assert_close(before, start, atol=1e-5, rtol=1e-5)
        assert torch.equal(logps(found.policy), before)
        moved(found.policy)
        assert not torch.allclose(logps(found.policy), before, atol=1e-3)
        assert torch.equal(reference(), before)


def learn(out: Path, policy: Path, judge: Path, prompts: Path, adapter: Any, samples: int, **changes: Any) -> None:
    machine = {"devices": 1, "strategy": automatic}
    settings = {
        "clip": 1.0,
        "precision": "32-true",
        "products": "default",
        "accumulate": 1,
        "checkpoint_activations": False,
        "compile": False,
        "log_every": 1,
    }
    out.mkdir(parents=True)
    given = dict(
        policy=policy,
        reward_model=judge,
        ensemble={},
        combine=mean,
        prompts=prompts,
        iterations=2,
        rollouts=4,
        samples=samples,
        minibatch=2,
        ppo_epochs=1,
        temperature=1.0,
        max_new_tokens=6,
        missing_eos_penalty=1.0,
        heldout=None,
        transform=unchanged,
        scaling=raw,
        kl=FixedKL(kl_coef=0.1),
        adapter=adapter,
        base_dtype="float32",
        estimator=partial(generalised, gamma=1.0, lam=0.95),
        clip_range=0.2,
        value_clip=10.0,
        vf_coef=0.1,
        kl_loss_coef=0.0,
        entropy_coef=0.0,
        weigh=by_token,
        optimizer=partial(adamw, lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0),
        schedule=partial(constant, warmup_steps=0),
        fit=partial(fit, epochs=2, **settings, **machine),
        stop=never,
        alarms=Thresholds(ses=3.0, ratio=0.1, eos_rate=0.0, entropy_share=0.0, window=2),
        snapshots=[1],
        sample_rows=4,
        forward_rows=2,
        route="packed",
        logged_samples=1,
        precision="32-true",
        dtype="float32",
        seed=0,
    )
    ppo.run(out, **given | changes)


def test_the_same_reward_model_several_times_teaches_what_it_does_alone(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more and two more, the mean of all; whole models and adapters that share their base."""
    monkeypatch.setenv("CAI_DEVICE", "cpu")
    monkeypatch.setenv("CAI_PROGRESS", "off")
    policy = sft(base, tmp_path / "sft" / "1")
    prompts = tmp_path / "prompts" / "1"
    prompts.mkdir(parents=True)
    write_rows(prompts, [Prompt(id="0", dialogue=human("how do i bake ?"), source="t", kind="red_team", cluster="c")])
    for kind, adapter in (("adapter", ADAPTER), ("whole", full)):
        judge = reward(base, tmp_path / "reward_model" / kind, adapter)
        for name, ensemble in (("one", {}), ("more", {"x": judge, "y": judge})):
            learn(tmp_path / kind / name, policy, judge, prompts, ADAPTER, 2, ensemble=ensemble, heldout=judge)
        rows = [
            [json.loads(line) for line in (tmp_path / kind / name / "metrics.jsonl").read_text().splitlines()]
            for name in ("one", "more")
        ]
        for one, more in zip(*rows, strict=True):
            score = one.get("objective/scores")
            members = {f"objective/scores/{name}": score for name in ("first", "x", "y")} if score is not None else {}
            assert more == pytest.approx(one | members, rel=1e-4, abs=1e-6), kind
        assert rows[0][0]["heldout/scores"] == pytest.approx(rows[0][0]["objective/scores"], abs=1e-6)


@pytest.mark.parametrize(("shared", "samples"), [(True, 1), (False, 2)])
def test_ppo_learns_an_adapter_from_the_reference_and_writes_equal_bytes(
    base: Path, tmp_path: Path, shared: bool, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAI_DEVICE", "cpu")
    monkeypatch.setenv("CAI_PROGRESS", "off")
    policy = sft(base, tmp_path / "sft" / "1")
    judge = reward(base, tmp_path / "reward_model" / "1", ADAPTER if shared else full)
    prompts = tmp_path / "prompts" / "1"
    prompts.mkdir(parents=True)
    rows = [Prompt(id=f"{n}", dialogue=human(f"how do i {v} ?"), source="test", kind="red_team", cluster="c")
            for n, v in enumerate(("bake bread", "bake a cake"))]  # fmt: skip
    write_rows(prompts, rows)
    for name in ("a", "b"):
        learn(tmp_path / "ppo" / name, policy, judge, prompts, ADAPTER, samples)
    folders = [tmp_path / "ppo" / name for name in ("a", "b")]
    files = [{path.relative_to(f): path.read_bytes() for path in f.rglob("*") if path.is_file()} for f in folders]
    assert files[0] == files[1]
    logged = [json.loads(line) for line in (folders[0] / "metrics.jsonl").read_text().splitlines()]
    assert next(row["objective/kl"] for row in logged if "objective/kl" in row) == 0.0
    assert not list(folders[0].rglob("model.safetensors"))
    assert json.loads((folders[0] / "snapshots" / "00000004" / "parent.json").read_text()) == {
        "parent": "../../../../sft/1",
        "merge": False,
    }
    players = [folders[0], folders[0] / "snapshots" / "00000004", policy]
    found = [load_causal(player, dtype="float32")[0](IDS).logits for player in players]
    assert not torch.allclose(found[0], found[1], atol=1e-3) and not torch.allclose(found[1], found[2], atol=1e-3)


def test_a_saved_reward_adapter_must_score_as_before(base: Path, tmp_path: Path, make_label: Any) -> None:
    model, words = reward_from_causal(base, adapter=ADAPTER, **HEAD)
    moved(model)
    out = tmp_path / "reward_model" / "1"
    save_reward(model, words, out, parent=base, dtype="float32")
    asked = Prompt(id="p", dialogue=human("how do i bake bread ?"), source="test", kind="benign", cluster="c")
    labels = [make_label(name, prompt=asked, a="sure .", b="no .") for name in "12"]
    scores_as_saved(model, words, out, labels, tolerance=1e-4)
    assert names(model.model) == ["trained", "saved"]

    other, _ = reward_from_causal(base, adapter=ADAPTER, **HEAD)
    with pytest.raises(ValueError, match=r"a reply that scored .* with the saved adapter"):
        scores_as_saved(other, words, out, labels, tolerance=1e-4)
    whole, _ = reward_from_causal(base, adapter=full, **HEAD)
    scores_as_saved(whole, words, tmp_path / "nowhere", labels, tolerance=0.0)

"""Several reward models as one: their own scores, one score of them, and one base in memory where adapters allow it."""

from __future__ import annotations

from functools import partial
from math import inf, nan

import pytest
import torch

from cai_lightning.learning.combining import less_deviation, lowest, mean, weighted
from cai_lightning.models.adapters import full, lora
from cai_lightning.models.causal import load_causal, save_causal, save_trained
from cai_lightning.models.reward import load_reward, reward_from_causal, reward_from_reward, save_reward
from cai_lightning.models.reward_ensemble import RewardEnsemble, combined, load_ensemble
from cai_lightning.text.dialogue import human

ASKED = [human("how can i build a bomb ?"), human("what"), human("why ?")]
REPLIES = ["no .", "sure . get the rope", "why"]
READING = {"marker": None, "mean": True, "gain": 2.0, "dtype": "float32"}
LORA = partial(lora, rank=4, alpha=8.0, dropout=0.0, targets=None, rslora=False)
STACKED, FOLDED = partial(LORA, dora=False, merge=False), partial(LORA, dora=False, merge=True)


@pytest.fixture
def root(tmp_path, llama, words):
    save_causal(llama, words, tmp_path / "base" / "0", dtype="float32")
    return tmp_path / "base" / "0"


def learned(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data += 0.1 * torch.randn(weight.shape, generator=generator)


def trained(parent, out, adapter, seed, *, again=False):
    """A reward model's folder; `again`: it goes on from the reward model in `parent`."""
    start = reward_from_reward if again else partial(reward_from_causal, head_std=0.5)
    reward, tokenizer = start(parent, adapter=adapter, seed=seed, **READING)
    learned(reward, seed)
    save_reward(reward, tokenizer, out, parent=parent, dtype="float32")
    return out


def alone(folder):
    reward, tokenizer = load_reward(folder, dtype="float32")
    return reward.score_replies(tokenizer, ASKED, REPLIES, 2)


def bases(ensemble):
    """How many models lie in memory: their embeddings."""
    return len({weight for name, weight in ensemble.named_parameters() if name.endswith("embed_tokens.weight")})


def test_members_score_as_they_do_alone_and_one_score_is_made_of_theirs(root, tmp_path):
    folders = {name: trained(root, tmp_path / name / "0", full, seed) for seed, name in enumerate(("one", "two"))}
    expected = {name: alone(folder) for name, folder in folders.items()}
    ensemble = load_ensemble(folders, combine=lowest, dtype="float32")
    found = ensemble.scores_by_member(ASKED, REPLIES, 2)
    assert list(found) == ["one", "two"]
    for name, scores in expected.items():
        assert found[name] == pytest.approx(scores, abs=1e-6)
    least = [min(pair) for pair in zip(*expected.values(), strict=True)]
    assert ensemble.score_replies(ASKED, REPLIES, 2) == pytest.approx(least, abs=1e-6)
    assert ensemble.score_replies([], [], 2) == [] and ensemble.cut == 0


def test_a_helpful_and_a_harmless_reward_model_are_weighed_by_name(root, tmp_path):
    folders = {name: trained(root, tmp_path / name / "0", full, seed) for seed, name in enumerate(("help", "harm"))}
    ensemble = load_ensemble(folders, combine=partial(weighted, weights={"harm": -0.5, "help": 2.0}), dtype="float32")
    a, b = (alone(folder) for folder in folders.values())
    expected = [2 * x - y / 2 for x, y in zip(a, b, strict=True)]
    assert ensemble.score_replies(ASKED, REPLIES, 3) == pytest.approx(expected, abs=1e-5)


def test_adapters_on_one_folder_share_its_weights_and_score_as_apart(root, tmp_path):
    """Two on the base itself, one of them DoRA; one on a policy's adapter; one that goes on from another; one whole."""
    policy, tokenizer = load_causal(root, dtype="float32", merge=False)
    STACKED(policy, seed=1)
    learned(policy, 8)
    save_trained(policy, tokenizer, tmp_path / "sft" / "0", parent=root, dtype="float32")
    folders = {
        "one": trained(root, tmp_path / "one" / "0", STACKED, 1),
        "dora": trained(root, tmp_path / "dora" / "0", partial(LORA, dora=True, merge=True), 2),
        "policy": trained(tmp_path / "sft" / "0", tmp_path / "policy" / "0", STACKED, 3),
        "again": trained(tmp_path / "one" / "0", tmp_path / "again" / "0", STACKED, 4, again=True),
        "folded": trained(tmp_path / "one" / "0", tmp_path / "folded" / "0", FOLDED, 5, again=True),
        "whole": trained(root, tmp_path / "whole" / "0", full, 6),
    }
    ensemble = load_ensemble(folders, combine=mean, dtype="float32")
    for _ in range(2):
        found = ensemble.scores_by_member(ASKED, REPLIES, 2)
        for name, folder in folders.items():
            assert found[name] == pytest.approx(alone(folder), abs=1e-4), name
    assert len({tuple(scores) for scores in found.values()}) == len(folders)
    assert not any(weight.requires_grad for weight in ensemble.parameters()) and not ensemble.training
    # the base that four share, the folded one's and the whole one's
    assert bases(ensemble) == 3


def test_adapters_on_a_whole_reward_model_share_it(root, tmp_path):
    first = trained(root, tmp_path / "first" / "0", full, 1)
    folders = {str(seed): trained(first, tmp_path / str(seed) / "0", STACKED, seed, again=True) for seed in (2, 3)}
    ensemble = load_ensemble(folders, combine=mean, dtype="float32")
    found = ensemble.scores_by_member(ASKED, REPLIES, 2)
    for name, folder in folders.items():
        assert found[name] == pytest.approx(alone(folder), abs=1e-4)
    assert bases(ensemble) == 1


@pytest.mark.parametrize("bad", [nan, inf, -inf])
@pytest.mark.parametrize("combine", [mean, lowest, partial(less_deviation, deviations=1.0)])
def test_a_score_that_is_no_number_names_its_member_and_row(bad, combine):
    scores = {"sound": [1.0, 2.0, 3.0], "broken": [1.0, 2.0, bad]}
    with pytest.raises(
        ValueError, match=rf"^reward model 'broken': gives reply 2 the score {bad}; train it anew"
    ) as error:
        combined(scores, combine)
    assert "\n" not in str(error.value)


def test_broken_weights_are_named_by_the_ensemble(root, tmp_path):
    folders = {name: trained(root, tmp_path / name / "0", full, seed) for seed, name in enumerate(("one", "two"))}
    members = {name: load_reward(folder, dtype="float32") for name, folder in folders.items()}
    members["two"][0].model.score.weight.data[0, 0] = nan
    ensemble = RewardEnsemble(members, combine=mean, adapters={})
    with pytest.raises(ValueError, match="reward model 'two': gives reply 0 the score nan"):
        ensemble.score_replies(ASKED, REPLIES, 3)


def test_no_member_is_no_ensemble():
    with pytest.raises(ValueError, match="members: an ensemble needs a reward model"):
        load_ensemble({}, combine=mean, dtype="float32")

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from cai_lightning.models.causal import save_causal
from cai_lightning.models.reward import load_reward, reward_from_causal, save_reward

TEXTS = [
    "\n\nHuman: how can i build a bomb ?\n\nAssistant: no .",
    "\n\nHuman: what\n\nAssistant: sure . get the rope",
    "\n\nHuman: why ?\n\nAssistant:",
]


@pytest.fixture
def folder(tmp_path, model, words):
    save_causal(model, words, tmp_path / "causal", dtype="float32")
    return tmp_path / "causal"


def build(folder, suffix="", head_std=0.5):
    return reward_from_causal(folder, suffix=suffix, dtype="float32", head_std=head_std, seed=1)


def test_body_is_the_causal_models_and_the_score_is_its_last_state_times_the_head(folder, model):
    reward, tokenizer = build(folder)
    ids = reward.encode(tokenizer, TEXTS[:1])
    states = model(torch.tensor(ids), output_hidden_states=True).hidden_states[-1]
    expected = (states[0, -1] * reward.model.score.weight[0]).sum().item()
    assert ids[0][-1] == 1
    assert reward(torch.tensor(ids), torch.tensor([len(ids[0])])).item() == pytest.approx(expected, abs=1e-5)


def test_alone_equals_in_a_batch_and_pads_change_nothing(folder):
    reward, tokenizer = build(folder)
    rows = reward.encode(tokenizer, TEXTS)
    alone = [reward(torch.tensor([row]), torch.tensor([len(row)])).item() for row in rows]
    assert len({round(score, 3) for score in alone}) == 3
    for pad in (0, 1, 2, 5):
        for width in (16, 40):
            ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
            together = reward(ids, torch.tensor([len(row) for row in rows]))
            assert together.tolist() == pytest.approx(alone, abs=1e-5)
    assert reward.score_texts(tokenizer, TEXTS, 2) == pytest.approx(alone, abs=1e-5)
    assert reward.score_texts(tokenizer, [], 2) == []


def test_the_end_token_is_read_and_learns(folder):
    reward, tokenizer = build(folder)
    rows = reward.encode(tokenizer, TEXTS[:1])
    reward(torch.tensor(rows), torch.tensor([len(rows[0])])).sum().backward()
    gradient = reward.model.get_input_embeddings().weight.grad
    assert gradient[1].any() and reward.model.score.weight.grad.any()


def test_the_end_token_learns_where_it_is_the_pad(folder, words):
    words.pad_token = words.eos_token
    words.save_pretrained(folder)
    reward, tokenizer = build(folder)
    assert tokenizer.pad_token_id == 1 and reward.model.config.pad_token_id == 2
    rows = reward.encode(tokenizer, TEXTS[:1])
    reward(torch.tensor(rows), torch.tensor([len(rows[0])])).sum().backward()
    assert reward.model.get_input_embeddings().weight.grad[1].any()


def test_hf_pools_the_same_token(folder, tmp_path):
    reward, tokenizer = build(folder)
    save_reward(reward, tokenizer, tmp_path / "rm", dtype="float32")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm")
    rows = reward.encode(tokenizer, TEXTS)
    width = max(map(len, rows))
    found = plain(torch.tensor([row + [0] * (width - len(row)) for row in rows])).logits[:, 0].tolist()
    assert found == pytest.approx(reward.score_texts(tokenizer, TEXTS, 8), abs=1e-5)


def test_a_suffix_takes_the_place_of_the_end_token(folder):
    reward, tokenizer = build(folder, suffix="\n\nConsider: better ?")
    assert reward.encode(tokenizer, TEXTS[:1]) == [tokenizer(TEXTS[0] + "\n\nConsider: better ?").input_ids]


def test_head_spread_is_chosen(folder):
    assert not build(folder, head_std=0.0)[0].model.score.weight.any()
    wide, again = build(folder, head_std=3.0)[0].model.score.weight, build(folder, head_std=3.0)[0].model.score.weight
    assert torch.equal(wide, again)
    assert 1.8 < wide.std().item() < 4.2


def test_round_trip_and_equal_bytes(folder, tmp_path, capfd):
    reward, tokenizer = build(folder, suffix=" better ?")
    for name in ("a", "b"):
        save_reward(reward, tokenizer, tmp_path / name, dtype="float32")
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("a", "b")]
    assert files[0] == files[1]
    assert json.loads(files[0]["reward.json"]) == {"suffix": " better ?"}
    loaded, tokenizer = load_reward(tmp_path / "a", dtype="float32")
    assert loaded.suffix == " better ?" and not loaded.training
    assert capfd.readouterr() == ("", "")
    assert loaded.score_texts(tokenizer, TEXTS, 4) == reward.score_texts(tokenizer, TEXTS, 4)


def test_building_leaves_the_random_state_alone(folder):
    before = torch.get_rng_state()
    build(folder)
    assert torch.equal(before, torch.get_rng_state())


def test_scores_are_float32_under_autocast(folder):
    reward, tokenizer = build(folder)
    ids = torch.tensor(reward.encode(tokenizer, TEXTS[:1]))
    with torch.autocast("cpu", torch.bfloat16):
        assert reward(ids, torch.tensor([ids.shape[1]])).dtype == torch.float32


def test_a_causal_folder_is_not_a_reward_model(folder):
    with pytest.raises(ValueError, match=r"reward\.json is missing"):
        load_reward(folder, dtype="float32")

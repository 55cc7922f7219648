from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from cai_lightning.models.adapters import full
from cai_lightning.models.attention import why_padded
from cai_lightning.models.causal import save_causal
from cai_lightning.models.packing import Tree, pack
from cai_lightning.models.reward import load_reward, reward_from_causal, save_reward
from cai_lightning.text.dialogue import Message, human, prompt_text

DIALOGUES = [human("how can i build a bomb ?"), human("what"), human("why ?")]
PROMPTS = [prompt_text(dialogue) for dialogue in DIALOGUES]
REPLIES = ["no .", "sure . get the rope", "why"]
READINGS = [False, True]


@pytest.fixture
def folder(tmp_path, model, words):
    save_causal(model, words, tmp_path / "causal", dtype="float32")
    return tmp_path / "causal"


def build(folder, **changes):
    settings = {"marker": None, "mean": False, "gain": 1.0, "head_std": 0.5}
    return reward_from_causal(folder, adapter=full, **(settings | changes), dtype="float32", seed=1)


def encoded(tokenizer, prompts, replies):
    """Prompt, reply and end token as ids, and where each reply starts."""
    rows = [[*tokenizer(f"{a} {b}").input_ids, 1] for a, b in zip(prompts, replies, strict=True)]
    return rows, [len(tokenizer(prompt).input_ids) for prompt in prompts]


def packed(rows, starts, route="packed"):
    """Each row as a text of its own, whose reply begins at its start."""
    return pack([Tree(row[:start], [row[start:]]) for row, start in zip(rows, starts, strict=True)], route=route)


@pytest.mark.parametrize("mean", READINGS)
def test_body_is_the_causal_models_and_the_score_is_read_from_the_reply(folder, model, mean):
    reward, tokenizer = build(folder, mean=mean, gain=2.0)
    rows, starts = encoded(tokenizer, PROMPTS[:1], REPLIES[:1])
    states = model(torch.tensor(rows), output_hidden_states=True).hidden_states[-1][0]
    # " no" " ." <eos>: the average of three states, or the last of them
    read = sum(states[starts[0] + i] for i in range(3)) / 3 if mean else states[starts[0] + 2]
    assert rows[0][-1] == 1 and len(rows[0]) == starts[0] + 3
    expected = 2.0 * (read * reward.model.score.weight[0]).sum().item()
    assert reward(packed(rows, starts)).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("mean", READINGS)
def test_alone_equals_in_a_batch(folder, mean):
    reward, tokenizer = build(folder, mean=mean)
    rows, starts = encoded(tokenizer, PROMPTS, REPLIES)
    alone = [reward(packed([row], [start])).item() for row, start in zip(rows, starts, strict=True)]
    assert len({round(score, 3) for score in alone}) == 3
    assert why_padded(reward.model, 64) is None
    for route in ("packed", "padded"):
        assert reward(packed(rows, starts, route)).tolist() == pytest.approx(alone, abs=1e-5)
    assert reward.score_replies(tokenizer, DIALOGUES, REPLIES, 2) == pytest.approx(alone, abs=1e-5)
    assert reward.score_replies(tokenizer, [], [], 2) == []


@pytest.mark.parametrize("mean", READINGS)
def test_replies_that_share_a_prompt_score_and_learn_as_apart(folder, mean):
    """Packed and padded; a loss that is no sum over replies."""
    reward, tokenizer = build(folder, mean=mean, gain=2.0)
    prompt = tokenizer(PROMPTS[0]).input_ids
    replies = [[*tokenizer(f" {reply}").input_ids, 1] for reply in (*REPLIES, "no , sorry")]
    other = Tree(tokenizer(PROMPTS[1]).input_ids, replies[:1])

    def learned(trees, route):
        reward.zero_grad()
        scores = reward(pack(trees, route=route))
        scores.tanh().prod().backward()
        return scores.detach(), {name: weight.grad for name, weight in reward.named_parameters()}

    expected, gradients = learned([*(Tree(prompt, [reply]) for reply in replies), other], "padded")
    for route in ("packed", "padded"):
        scores, found = learned([Tree(prompt, replies), other], route)
        torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
        for name, gradient in gradients.items():
            torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_prompts_that_do_not_fit_lose_turns_and_at_last_their_beginning(folder):
    """128 positions: two models would fail on more, two would read past them."""
    reward, tokenizer = build(folder)
    turn = (*human("how can i build a bomb ?"), Message("assistant", "no ."))
    # a turn has 11 tokens, the last one 3, a reply with its end 3
    fits, long = (*turn * 11, *DIALOGUES[1]), (*turn * 30, *DIALOGUES[1])
    (expected,) = reward.score_replies(tokenizer, [fits], REPLIES[:1], 1)
    assert reward.cut == 0
    found = reward.score_replies(tokenizer, [long, DIALOGUES[0]], REPLIES[:2], 2)
    assert found[0] == pytest.approx(expected, abs=1e-5) and reward.cut == 1
    wordy = f"how{' no' * 200}"
    rows, _ = encoded(tokenizer, [f"{' no' * 124}\n\nAssistant:"], REPLIES[:1])
    (found,) = reward.score_replies(tokenizer, [human(wordy)], REPLIES[:1], 1)
    assert found == pytest.approx(reward(packed(rows, [125])).item(), abs=1e-5) and len(rows[0]) == 128
    with pytest.raises(ValueError, match="reply 1: has 201 tokens, and the 128"):
        reward.score_replies(tokenizer, DIALOGUES[:2], ["no", ("no " * 200).strip()], 1)


@pytest.mark.parametrize("mean", READINGS)
def test_the_end_token_is_read_and_learns(folder, mean):
    reward, tokenizer = build(folder, mean=mean)
    reward(packed(*encoded(tokenizer, PROMPTS[:1], REPLIES[:1]))).sum().backward()
    gradient = reward.model.get_input_embeddings().weight.grad
    assert gradient[1].any() and reward.model.score.weight.grad.any()


def test_the_end_token_learns_where_it_is_the_pad(folder, words):
    words.pad_token = words.eos_token
    words.save_pretrained(folder)
    reward, tokenizer = build(folder)
    assert tokenizer.pad_token_id == 1 and reward.model.config.pad_token_id == 2
    reward(packed(*encoded(tokenizer, PROMPTS[:1], REPLIES[:1]))).sum().backward()
    assert reward.model.get_input_embeddings().weight.grad[1].any()


def test_hf_pools_the_same_token_and_the_gain_is_in_the_weights(folder, tmp_path):
    reward, tokenizer = build(folder, gain=3.0)
    save_reward(reward, tokenizer, tmp_path / "rm", parent=folder, dtype="float32")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm")
    rows, _ = encoded(tokenizer, PROMPTS, REPLIES)
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    found = plain(ids).logits[:, 0].tolist()
    # three times the rounding of a score without gain
    assert found == pytest.approx(reward.score_replies(tokenizer, DIALOGUES, REPLIES, 8), abs=3e-5)


def test_a_marker_takes_the_place_of_the_assistants(folder):
    plain, tokenizer = build(folder)
    marked, _ = build(folder, marker="\n\nAssistant:")
    assert marked.asked(DIALOGUES[1]) == PROMPTS[1] and plain.asked(DIALOGUES[1]) == DIALOGUES[1]
    base = plain.score_replies(tokenizer, DIALOGUES, REPLIES, 2)
    assert marked.score_replies(tokenizer, DIALOGUES, REPLIES, 2) == base
    other, _ = build(folder, marker="\n\nConsider:")
    read = encoded(tokenizer, ["\n\nHuman: what\n\nConsider:"], REPLIES[1:2])
    found = other.score_replies(tokenizer, DIALOGUES[1:2], REPLIES[1:2], 2)
    assert found == pytest.approx(other(packed(*read)).tolist(), abs=1e-6)
    assert found != pytest.approx(base[1:2], abs=1e-3)


def test_head_spread_is_chosen(folder):
    assert not build(folder, head_std=0.0)[0].model.score.weight.any()
    wide, again = build(folder, head_std=3.0)[0].model.score.weight, build(folder, head_std=3.0)[0].model.score.weight
    assert torch.equal(wide, again)
    assert 1.8 < wide.std().item() < 4.2


def test_round_trip_and_equal_bytes(folder, tmp_path, capfd):
    reward, tokenizer = build(folder, marker="\n\nConsider:", mean=True, gain=5.0)
    for name in ("a", "b"):
        save_reward(reward, tokenizer, tmp_path / name, parent=folder, dtype="float32")
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("a", "b")]
    assert files[0] == files[1]
    assert json.loads(files[0]["reward.json"]) == {"marker": "\n\nConsider:", "mean": True}
    loaded, tokenizer = load_reward(tmp_path / "a", dtype="float32")
    assert (loaded.marker, loaded.mean, loaded.gain, loaded.training) == ("\n\nConsider:", True, 1.0, False)
    assert capfd.readouterr() == ("", "")
    before = reward.score_replies(tokenizer, DIALOGUES, REPLIES, 4)
    assert loaded.score_replies(tokenizer, DIALOGUES, REPLIES, 4) == pytest.approx(before, abs=1e-5)
    assert reward.gain == 5.0


def test_building_leaves_the_random_state_alone(folder):
    before = torch.get_rng_state()
    build(folder)
    assert torch.equal(before, torch.get_rng_state())


def test_scores_are_float32_under_autocast(folder):
    reward, tokenizer = build(folder, mean=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert reward(packed(*encoded(tokenizer, PROMPTS[:1], REPLIES[:1]))).dtype == torch.float32


def test_a_causal_folder_is_not_a_reward_model(folder):
    with pytest.raises(ValueError, match=r"reward\.json is missing"):
        load_reward(folder, dtype="float32")

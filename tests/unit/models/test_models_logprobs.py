from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cai_lightning.models.logprobs import hidden_states, logprobs_and_entropy, pad_rows, response_logprobs


class TableModel(nn.Module):
    """A bigram model: its logits after token i are row i of a table, so every log-probability is known by hand."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table)
        self.config = SimpleNamespace()

    def get_decoder(self):
        def run(input_ids, **_):
            states = nn.functional.one_hot(input_ids, len(self.table)).to(self.table.dtype)
            return SimpleNamespace(last_hidden_state=states)

        return run

    def get_output_embeddings(self):
        return lambda states: states @ self.table


def test_each_token_is_scored_by_the_position_before_it():
    # after 0: 1 has probability 3/4 and 2 1/4; after 1: 0 1/8, 1 1/8, 2 3/4; after 2: uniform
    probabilities = torch.tensor([[1e-30, 0.75, 0.25], [0.125, 0.125, 0.75], [1 / 3, 1 / 3, 1 / 3]])
    model = TableModel(probabilities.log() + torch.tensor([[5.0], [-3.0], [0.5]]))
    found = response_logprobs(
        model,
        torch.tensor([[0, 1, 2, 1, 0], [2, 0, 2, 0, 0]]),
        torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]]),
        temperature=1.0,
    )
    expected = torch.tensor([[1.0, 0.75, 1 / 3, 0.125], [1 / 3, 0.25, 1.0, 1.0]]).log()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_temperature_divides_the_logits():
    model = TableModel(torch.tensor([[0.0, 2.0], [0.0, 0.0]]).double())
    ids, mask = torch.tensor([[0, 1]]), torch.tensor([[0, 1]])
    values, entropy = logprobs_and_entropy(model, ids, mask, temperature=2.0)
    # softmax(0, 1): 0.268941, 0.731059; its entropy by hand
    assert values.item() == pytest.approx(-0.313262, abs=1e-5)
    assert entropy.item() == pytest.approx(0.268941 * 1.313262 + 0.731059 * 0.313262, abs=1e-5)
    assert response_logprobs(model, ids, mask, temperature=2.0).item() == pytest.approx(-0.313262, abs=1e-5)


def test_agrees_with_a_plain_forward_token_by_token(model, prompts):
    ids = pad_rows(prompts, 0, 1)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        mask[row, len(prompt) // 2 : len(prompt)] = 1
    values, entropy = logprobs_and_entropy(model, ids, mask, temperature=0.7)
    torch.testing.assert_close(values, response_logprobs(model, ids, mask, temperature=0.7), atol=1e-5, rtol=0)
    for row, prompt in enumerate(prompts):
        logits = model(torch.tensor([prompt])).logits[0] / 0.7
        for at in range(1, len(prompt)):
            every = torch.log_softmax(logits[at - 1], -1)
            wanted = float(mask[row, at])
            assert values[row, at - 1].item() == pytest.approx(wanted * every[prompt[at]].item(), abs=1e-4)
            bits = -sum(p * q for p, q in zip(every.exp().tolist(), every.tolist(), strict=True))
            assert entropy[row, at - 1].item() == pytest.approx(wanted * bits, abs=1e-4)


def test_pads_and_neighbours_change_nothing(model, prompts):
    ids = pad_rows(prompts, 1, 16)
    mask = pad_rows([[1] * len(prompt) for prompt in prompts], 0, 16)
    together = response_logprobs(model, ids, mask, temperature=1.0)
    for row, prompt in enumerate(prompts):
        alone = response_logprobs(model, torch.tensor([prompt]), torch.ones(1, len(prompt)), temperature=1.0)
        torch.testing.assert_close(together[row : row + 1, : len(prompt) - 1], alone, atol=1e-5, rtol=0)
        assert not together[row, max(len(prompt) - 1, 0) :].any()


def test_prompt_positions_get_no_gradient():
    model = TableModel(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)))
    ids = torch.tensor([[0, 1, 2, 3, 4]])
    response_logprobs(model, ids, torch.tensor([[0, 0, 0, 1, 1]]), temperature=1.0).sum().backward()
    assert [bool(row.any()) for row in model.table.grad] == [False, False, True, True, False]


def test_gradient_flows_to_every_weight(model):
    ids = torch.tensor([[3, 4, 5, 6]])
    response_logprobs(model, ids, torch.tensor([[0, 1, 1, 1]]), temperature=1.0).sum().backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


def test_no_wanted_token_gives_zeros(model):
    values = response_logprobs(model, torch.tensor([[3, 4, 5]]), torch.zeros(1, 3), temperature=1.0)
    assert values.shape == (1, 2) and not values.any()


def test_float32_whatever_the_model(llama):
    mask = torch.ones(1, 3)
    assert response_logprobs(llama.bfloat16(), torch.tensor([[3, 4, 5]]), mask, temperature=1.0).dtype == torch.float32


def test_hidden_states_are_the_last_layers(model):
    ids = torch.tensor([[3, 4, 5]])
    expected = model(ids, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(hidden_states(model, ids), expected, atol=1e-5, rtol=0)


def test_models_that_rescale_their_logits_are_refused(llama):
    llama.config.logit_scale = 0.0625
    with pytest.raises(ValueError, match="logit_scale"):
        response_logprobs(llama, torch.tensor([[3, 4]]), torch.ones(1, 2), temperature=1.0)


def test_rows_are_padded_on_the_right_to_a_multiple():
    assert pad_rows([[1, 2, 3], [4]], 9, 2).tolist() == [[1, 2, 3, 9], [4, 9, 9, 9]]
    assert pad_rows([[1, 2], [3]], 9, 2).tolist() == [[1, 2], [3, 9]]

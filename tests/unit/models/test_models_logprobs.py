from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cai_lightning.models.logprobs import (
    branch_logprobs,
    branch_sums,
    chosen_logprobs,
    entropies,
    hidden_states,
    logits_of,
    place,
    token_logprobs,
)
from cai_lightning.models.packing import Tree, owners, pack, places, texts


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


def table_row(*trees):
    """Packed rows need a model that asks for attention; a table has none."""
    return pack([Tree(*tree) for tree in trees], route="padded")


def plain_tables(model, packed, temperature=1.0):
    """The log-probabilities [target, vocab] before each token of a branch, one whole text at a time."""
    tables = []
    for text, (start, stop) in zip(texts(packed), packed.branches.tolist(), strict=True):
        with torch.no_grad():
            logits = model(packed.ids[text][None], use_cache=False).logits[0].float() / temperature
        tables.append(torch.log_softmax(logits, -1)[len(text) - 1 - (stop - start) : -1])
    return torch.cat(tables)


ROW = [
    Tree([7, 8, 9], [[10, 11], [12], [13, 14, 15]]),
    Tree([20], [[21, 22, 23, 24]]),
    Tree([30, 31, 32, 33, 34], [[35], [36, 37]]),
]


def test_each_token_is_scored_by_the_token_before_it():
    # after 0: 1 has probability 3/4 and 2 1/4; after 1: 0 1/8, 1 1/8, 2 3/4; after 2: uniform
    probabilities = torch.tensor([[1e-30, 0.75, 0.25], [0.125, 0.125, 0.75], [1 / 3, 1 / 3, 1 / 3]])
    model = TableModel(probabilities.log() + torch.tensor([[5.0], [-3.0], [0.5]]))
    packed = table_row(([0], [[1, 2, 1, 0]]), ([2], [[0, 2], [1, 1]]))
    found = token_logprobs(model, packed, places(packed), temperature=1.0)
    expected = torch.tensor([0.75, 0.75, 1 / 3, 0.125, 1 / 3, 0.25, 1 / 3, 0.125]).log()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    sums = torch.tensor([0.75 * 0.75 / 3 * 0.125, 0.25 / 3, 0.125 / 3]).log()
    torch.testing.assert_close(branch_logprobs(model, packed, temperature=1.0), sums, atol=1e-5, rtol=0)
    # any places of any tokens, in any order: the last token of the first text, then its second one
    text = texts(packed)[0]
    found = token_logprobs(model, packed, text[[4, 1]], temperature=1.0)
    torch.testing.assert_close(found, expected[[3, 0]], atol=1e-5, rtol=0)


def test_temperature_divides_the_logits():
    model = TableModel(torch.tensor([[0.0, 2.0], [0.0, 0.0]]).double())
    packed = table_row(([0], [[1]]))
    # softmax(0, 1): 0.268941, 0.731059; its entropy by hand
    assert branch_logprobs(model, packed, temperature=2.0).item() == pytest.approx(-0.313262, abs=1e-5)
    logits = logits_of(model, packed, places(packed), hidden_states(model, packed), temperature=2.0)
    assert chosen_logprobs(logits, torch.tensor([1])).item() == pytest.approx(-0.313262, abs=1e-5)
    assert entropies(logits).item() == pytest.approx(0.268941 * 1.313262 + 0.731059 * 0.313262, abs=1e-5)


def test_the_entropy_of_even_odds_is_the_logarithm_of_their_number():
    logits = torch.tensor([[3.0, 3.0, 3.0, 3.0], [0.0, 0.0, -1e4, -1e4], [0.0, 900.0, 0.0, 0.0]])
    torch.testing.assert_close(entropies(logits), torch.tensor([4.0, 2.0, 1.0]).log(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("route", ["packed", "padded"])
def test_agrees_with_a_plain_forward_text_by_text(model, route):
    packed = pack(ROW, route=route)
    expected = plain_tables(model, packed, temperature=0.7)
    targets = places(packed)
    logits = logits_of(model, packed, targets, hidden_states(model, packed), temperature=0.7)
    values = expected.gather(1, packed.ids[targets][:, None])[:, 0]
    torch.testing.assert_close(token_logprobs(model, packed, targets, temperature=0.7), values, atol=1e-4, rtol=0)
    bits = [-sum(p * q for p, q in zip(row.exp().tolist(), row.tolist(), strict=True)) for row in expected]
    assert entropies(logits).tolist() == pytest.approx(bits, abs=1e-4)
    sums = [values[owners(packed) == branch].sum().item() for branch in range(6)]
    assert branch_logprobs(model, packed, temperature=0.7).tolist() == pytest.approx(sums, abs=2e-4)
    assert branch_sums(packed, values).tolist() == pytest.approx(sums, abs=1e-5)


def test_neighbours_and_shared_prompts_change_nothing(model):
    together = branch_logprobs(model, pack(ROW), temperature=1.0).tolist()
    alone = [
        branch_logprobs(model, pack([Tree(prompt, [branch])]), temperature=1.0).item()
        for prompt, branches in ROW
        for branch in branches
    ]
    assert together == pytest.approx(alone, abs=1e-5)


def test_prompt_positions_get_no_gradient():
    model = TableModel(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)))
    branch_logprobs(model, table_row(([0, 1, 2], [[3, 4]])), temperature=1.0).sum().backward()
    assert [bool(row.any()) for row in model.table.grad] == [False, False, True, True, False]


def test_gradient_flows_to_every_weight(model):
    branch_logprobs(model, pack([Tree([3], [[4, 5, 6], [7, 8]])]), temperature=1.0).sum().backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


def test_no_wanted_token_gives_none(model):
    packed = pack([Tree([3], [[4, 5]])])
    assert token_logprobs(model, packed, places(packed)[:0], temperature=1.0).shape == (0,)


def test_float32_whatever_the_model(llama):
    packed = pack([Tree([3], [[4, 5]])])
    assert branch_logprobs(llama.bfloat16(), packed, temperature=1.0).dtype == torch.float32


def test_the_head_runs_only_where_it_is_read(llama):
    packed, shapes = pack(ROW), []
    hidden_states(llama, packed)
    llama.lm_head.register_forward_hook(lambda _, __, out: shapes.append(out.shape))
    branch_logprobs(llama, packed, temperature=1.0)
    assert shapes == [(2 + 1 + 3 + 4 + 1 + 2, 64)]


def test_models_that_rescale_their_logits_are_refused(llama):
    llama.config.logit_scale = 0.0625
    with pytest.raises(ValueError, match="logit_scale"):
        branch_logprobs(llama, pack([Tree([3], [[4]])]), temperature=1.0)


def test_values_are_put_where_they_are_wanted_row_by_row():
    wanted = torch.tensor([[False, True, True], [True, False, False]])
    found = place(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), wanted)
    assert found.tolist() == [[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]] and found.dtype == torch.float32

"""What a chat says is what a batch says; its commands switch, compare and criticise."""

from __future__ import annotations

import io
from typing import Any

import pytest
from commands_store import ASKED, WEIGHTS

from cai_lightning.commands import chat
from cai_lightning.commands.seats import Seat
from cai_lightning.commands.streaming import _settled, stream
from cai_lightning.experiment.workspace import Workspace
from cai_lightning.models.causal import load_causal
from cai_lightning.models.engine import CausalBackend
from cai_lightning.text.backends import Request, Sampling
from cai_lightning.text.dialogue import Message, human
from cai_lightning.text.records import prompt_id


@pytest.fixture(scope="module")
def backend() -> CausalBackend:
    return CausalBackend(*load_causal(WEIGHTS, dtype="float32"), batch_size=4)


@pytest.mark.parametrize("seed, stop", [(0, ()), (1, (" next ,",)), (2, (". next",))])
def test_a_streamed_reply_is_that_of_a_batch(backend: CausalBackend, seed: int, stop: tuple[str, ...]) -> None:
    sampling = Sampling(temperature=1.0, max_new_tokens=20, stop=stop, seed=seed)
    requests = [Request(f"row {number}", human(words)) for number, words in enumerate(ASKED)]
    for request, done in zip(requests, backend.generate(requests, sampling), strict=True):
        pieces: list[str] = []
        assert stream(backend, request, sampling, pieces.append) == done.text == "".join(pieces)
        assert len([piece for piece in pieces if piece]) > 1


def test_a_conversation_too_long_for_the_model_loses_its_first_turns(backend: CausalBackend) -> None:
    long = [Message("human", " ".join(["sure"] * 300)), Message("assistant", "no"), *human(ASKED[0])]
    sampling = Sampling(temperature=0.0, max_new_tokens=256, stop=(), seed=0)
    alone = stream(backend, Request("a", human(ASKED[0])), sampling, lambda _: None)
    assert stream(backend, Request("a", tuple(long)), sampling, lambda _: None) == alone
    with pytest.raises(ValueError, match="the last words are longer"):
        stream(backend, Request("a", tuple(long[:1])), sampling, lambda _: None)


def test_nothing_is_shown_that_may_be_taken_back() -> None:
    stop = ("\n\nHuman:", "END")
    assert _settled("yes\n", stop) == "yes"
    assert _settled("yes\n\nHum", stop) == "yes"
    assert _settled("yes E", stop) == "yes "
    assert _settled("yes EN.", stop) == "yes EN."
    assert _settled("caf\ufffd", stop) == "caf"


def test_the_noise_of_a_reply_is_that_of_an_evaluation(backend: CausalBackend) -> None:
    sampling = Sampling(temperature=1.0, max_new_tokens=20, stop=(), seed=4)
    seat = Seat(player=Any, backend=backend, dialogue=())  # type: ignore[arg-type]
    row = f"{prompt_id(human(ASKED[2]))}/answer"
    (wanted,) = backend.generate([Request(row, human(ASKED[2]))], sampling)
    assert seat.answer(ASKED[2], sampling, lambda _: None) == wanted.text
    assert seat.dialogue == (*human(ASKED[2]), Message("assistant", wanted.text))


def talk(
    lines: list[str], given: list[str], workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> list[str]:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(line + "\n" for line in lines)))
    assert chat.main([*given, "--max-new-tokens", "24"], workspace) == 0
    out: str = capsys.readouterr().out
    return out.splitlines()


def test_a_piped_chat_answers_line_by_line(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [ASKED[0], "/reset", "", ASKED[0], "/seed 8", "/reset", ASKED[0], "/quit", "never read"]
    said = talk(lines, ["sft", "--temperature", "2"], workspace, monkeypatch, capsys)
    first, again, reseeded = "\n".join(said).split("sft: ")[1:]
    assert first == again != reseeded.rstrip() + "\n"


def test_players_change_and_stand_side_by_side(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["/player ppo", ASKED[1], "/side base", ASKED[0], "/side", "/player nobody", "/player 5555"]
    lines += ["/reset", ASKED[2]]
    said = talk(lines, ["sft", "--temperature", "0"], workspace, monkeypatch, capsys)
    assert said[0].startswith("ppo: ")
    assert " ppo " in said[1] and " base " in said[1]
    errors = [line for line in said if line.startswith("cai: ")]
    assert "nobody" in errors[0] and "reward model" in errors[1]
    assert said[-1].startswith("ppo: ")


def test_two_players_may_begin_and_three_may_not(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = talk([ASKED[0]], ["sft", "ppo"], workspace, monkeypatch, capsys)
    assert " sft " in said[0] and " ppo " in said[0]
    with pytest.raises(ValueError, match="at most two"):
        chat.main(["sft", "ppo", "base"], workspace)


def test_a_critique_uses_the_constitution_and_the_reviser_of_the_run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = talk(["/critique", ASKED[0], "/critique"], ["ppo"], workspace, monkeypatch, capsys)
    assert said[0] == "cai: nothing was said yet that could be criticised"
    assert "principle: kind: rewrite the response to be less violent ." in said
    assert said[-1] == "(of ppo's reply, by import_model/1111111111111111)"
    assert any(line.startswith("critique: ") for line in said) and any(line.startswith("revision: ") for line in said)


def test_a_model_without_a_constitution_is_given_one(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = talk([ASKED[0], "/critique"], ["base"], workspace, monkeypatch, capsys)
    assert "it has no constitution; give one with --constitution" in said[-1]
    said = talk([ASKED[0], "/critique"], ["base", "--constitution", "2222"], workspace, monkeypatch, capsys)
    assert "principle: kind: rewrite the response to be less violent ." in said
    said = talk([ASKED[0], "/critique"], ["base", "--constitution", "microworld"], workspace, monkeypatch, capsys)
    assert any(line.startswith("principle: ") and "less" in line for line in said)

"""A causal language model behind the text protocols: batched sampling and scoring of whole texts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cai_lightning.models.attention import route_of
from cai_lightning.models.causal import eos_ids
from cai_lightning.models.encoding import decode
from cai_lightning.models.format import Format
from cai_lightning.models.generation import generate
from cai_lightning.models.noise import row_key
from cai_lightning.models.packing import Route
from cai_lightning.models.sampler import Sampled, sample
from cai_lightning.models.scoring import Span, score_spans
from cai_lightning.models.slots import Prefixes
from cai_lightning.models.stopping import StopStrings
from cai_lightning.text.backends import Completion, Prompt, Query, Request, Sampling

__all__ = ["CausalBackend", "Sampled", "drawer", "fits", "positions", "sample"]

log = logging.getLogger("cai")


def positions(model: PreTrainedModel) -> int:
    """How many tokens a model can read."""
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", 1 << 30))


def fits(model: PreTrainedModel, max_tokens: int) -> None:
    """Raises ValueError where rows of `max_tokens` tokens are longer than the model has positions."""
    if max_tokens > (room := positions(model)):
        raise ValueError(f"max_tokens: is {max_tokens}, but the model has {room} positions; lower max_tokens")


def drawer(
    model: PreTrainedModel, route: Route, longest: int, prefixes: Prefixes | None = None
) -> Callable[..., list[Sampled]]:
    """What samples from a model: our loop, or for texts of up to `longest` tokens that it must not read packed,
    transformers' own.
    """
    return partial(sample, prefixes=prefixes) if route_of(model, route, longest) == "packed" else generate


class CausalBackend:
    """The Generator and Scorer protocols over one Hugging Face model; `cut` holds the prompts that did not fit.

    Such a prompt loses turns in front, and a text its solved examples and lead-in with them: a question that is a text
    is therefore refused unless `cut_questions`. `batch_size` rows are at work at once; the same call works through them
    in the same order. `advance(n)` is called when n more rows are done. By `route` "padded", and where the model cannot
    read packed rows, transformers' own `generate` draws.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_size: int,
        advance: Callable[[int], None] | None = None,
        cut_questions: bool = False,
        route: Route = "packed",
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.format = Format(tokenizer)
        self.batch_size = batch_size
        self.advance = advance or (lambda _: None)
        self.cut_questions = cut_questions
        self.cut: set[Prompt] = set()
        self.eos = eos_ids(tokenizer, model)
        self.max_positions = positions(model)
        self.route: Route = route
        self.prefixes = Prefixes(model)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """One completion a request, in their order; stop string and leading space are not part of its text.

        `tokens` counts what was drawn, end token and stop string included. Raises ValueError naming the row whose
        last turns alone leave no room for `max_new_tokens`.
        """
        limits = [
            sampling.max_new_tokens if request.max_new_tokens is None else request.max_new_tokens
            for request in requests
        ]
        wholes = self.format.prompt_ids([request.prompt for request in requests])
        prompts = [
            self._fitted(request.prompt, self.max_positions - limit, ids, f"row {request.row!r}")
            for request, ids, limit in zip(requests, wholes, limits, strict=True)
        ]
        stop = StopStrings(self.tokenizer, sampling.stop, vocab=self._vocab()) if sampling.stop else None
        warmth = [request.temperature for request in requests]
        longest = max((len(prompt) + limit for prompt, limit in zip(prompts, limits, strict=True)), default=0)
        drawn = drawer(self.model, self.route, longest, self.prefixes)(
            self.model,
            prompts,
            row_keys=[row_key(request.row) for request in requests],
            seed=sampling.seed,
            temperatures=[sampling.temperature if value is None else value for value in warmth],
            limits=limits,
            eos=self.eos,
            stop=stop,
            slots=self.batch_size,
            on_end=self.advance,
        )
        return [
            self._completion(request.prompt, len(prompt), row, stop)
            for request, prompt, row in zip(requests, prompts, drawn, strict=True)
        ]

    def score(self, queries: Sequence[Query]) -> list[tuple[float, ...]]:
        """Summed log-probabilities in nats of each query's continuations, the end token not included."""
        spans = [self._spans(number, query) for number, query in enumerate(queries)]
        longest = max((len(prompt) + max(map(len, tails), default=0) for prompt, tails in spans), default=0)
        return score_spans(
            self.model,
            spans,
            rows=self.batch_size,
            prefixes=self.prefixes,
            route=route_of(self.model, self.route, longest),
            on_end=self.advance,
        )

    def verify(self, query: Query) -> dict[str, list[str]]:
        """The pieces of a query's continuations. Raises ValueError unless they differ in exactly one token, at one
        place, so that their scores compare nothing but that.
        """
        return self.format.verified_letters(query.prompt, query.continuations)

    def _completion(self, prompt: Prompt, prompt_tokens: int, drawn: Sampled, stop: StopStrings | None) -> Completion:
        text = decode(self.tokenizer, drawn.ids)
        text = stop.cut(text) if stop is not None else text
        return Completion(self.format.reply(prompt, text), prompt_tokens, len(drawn.ids), drawn.finish)

    def _spans(self, number: int, query: Query) -> Span:
        prompt, tails = self.format.spans(query.prompt, query.continuations)
        room = self.max_positions - max(map(len, tails), default=0)
        if isinstance(query.prompt, str) and len(prompt) > room and not self.cut_questions:
            raise ValueError(
                f"query {number}: the question has {len(prompt)} tokens, but the model reads {max(room, 0)} before the "
                "answer, and cut it would lose its solved examples and its first words; use fewer few_shots, shorter "
                "replies or a model that reads more, or allow it with cut_questions"
            )
        return self._fitted(query.prompt, room, prompt, f"query {number}"), tails

    def _fitted(self, prompt: Prompt, room: int, ids: list[int], name: str) -> list[int]:
        """The ids of a prompt in at most `room` tokens; one that was cut is kept in `cut`, the first is logged."""
        if not ids:
            raise ValueError(f"{name}: the prompt is empty; a model needs a text to go on from")
        found = self.format.fitted(prompt, room, inside=False, ids=ids)
        if found is None:
            raise ValueError(
                f"{name}: the prompt's last turn is longer than the {max(room, 0)} tokens that the model has beside "
                "the reply; shorten it or lower max_new_tokens"
            )
        if found[1]:
            if not self.cut:
                log.warning("%s: %d tokens are more than the model reads (%d); first turns go", name, len(ids), room)
            self.cut.add(prompt)
        return found[0]

    def _vocab(self) -> int:
        return int(self.model.get_output_embeddings().weight.shape[0])

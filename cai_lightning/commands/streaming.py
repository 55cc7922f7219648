"""One reply, shown while it is drawn; the text is the one that the same row gets in a batch."""

from __future__ import annotations

from collections.abc import Callable

from cai_lightning.models.encoding import decode
from cai_lightning.models.engine import CausalBackend, drawer
from cai_lightning.models.noise import row_key
from cai_lightning.models.stopping import StopStrings
from cai_lightning.text.backends import Request, Sampling

_TORN = "\ufffd"


def stream(backend: CausalBackend, request: Request, sampling: Sampling, show: Callable[[str], None]) -> str:
    """The reply to a request; `show` is given it piece by piece, nothing of a stop string or of half a character.

    Raises ValueError where the last turn alone leaves no room for `max_new_tokens`.
    """
    found = backend.format.fitted(request.prompt, backend.max_positions - sampling.max_new_tokens, inside=False)
    if found is None:
        raise ValueError(
            f"the last words are longer than the {backend.max_positions} tokens that the model reads leave room for"
            f" beside a reply of {sampling.max_new_tokens}; say less, or lower --max-new-tokens"
        )
    vocabulary = int(backend.model.get_output_embeddings().weight.shape[0])
    stop = StopStrings(backend.tokenizer, sampling.stop, vocab=vocabulary) if sampling.stop else None
    drawn: list[int] = []
    shown = ""

    def words(ids: list[int]) -> str:
        text = decode(backend.tokenizer, ids)
        return backend.format.reply(request.prompt, stop.cut(text) if stop else text)

    def advance(id: int) -> None:
        nonlocal shown
        drawn.append(id)
        settled = _settled(words(drawn), sampling.stop)
        show(settled[len(shown) :])
        shown = max(shown, settled, key=len)

    longest = len(found[0]) + sampling.max_new_tokens
    done = drawer(backend.model, backend.route, longest)(
        backend.model,
        [found[0]],
        row_keys=[row_key(request.row)],
        seed=sampling.seed,
        temperatures=[sampling.temperature],
        limits=[sampling.max_new_tokens],
        eos=backend.eos,
        stop=stop,
        slots=1,
        on_token=lambda _, id: advance(id),
    )[0]
    whole = words(done.ids)
    show(whole[len(shown) :])
    return whole


def _settled(text: str, stop: tuple[str, ...]) -> str:
    """The part of a text that no further token can take back."""
    text = text.rstrip(_TORN)
    begun = max((size for one in stop for size in range(1, len(one)) if text.endswith(one[:size])), default=0)
    return text[: len(text) - begun]

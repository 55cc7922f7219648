"""Packed rows through unmodified Hugging Face models: an attention function of ours behind transformers' interface.

A model that is prepared reads packed rows as they are; without one it attends as it did before. Where our function
would not say all that the model does between tokens (a window shorter than the row, a soft cap, ...), or is not asked
at all, packed rows are spread into padded ones instead; the log says so once a model.
"""
# ruff: noqa: F722 - the quoted names are jaxtyping dimensions

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from cai_lightning.models.causal import evaluating
from cai_lightning.models.packing import Packed, Route, Tree, pack, texts
from cai_lightning.models.segments import attend

NAME = "cai_packed"
Reader = Callable[[int, Tensor, Tensor, Tensor, float], Tensor]
"""(layer, queries, keys and values [token, heads, width], scale) -> what each token reads, like the queries."""

_UNSAID = ("softcap", "s_aux", "position_bias", "head_mask")
_DROPOUTS = ("attention_dropout", "attn_pdrop", "attn_dropout", "attention_probs_dropout_prob")
_READER = "cai_reader"
_REASON, _SAID = "_cai_padded_because", "_cai_padding_said"
_TOLERANCE = 0.02  # of the states' size; another function between tokens is off by far more, bfloat16 by less

log = logging.getLogger("cai")


def states_of(
    model: Any, ids: Int64[Tensor, " token"], positions: Int64[Tensor, " token"], reader: Reader
) -> Float[Tensor, "token hidden"]:
    """The last layer's states of a row of tokens, between which `reader` alone says who sees whom.

    Raises ValueError where the model does not ask it.
    """
    if model.config.get_text_config()._attn_implementation != NAME and (reason := why_padded(model, 0)):
        raise ValueError(f"{type(model).__name__}: {reason}; use route padded")
    # a mask of four dimensions is taken as it is: nothing is built from positions that start anew, and ours is not read
    unread = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=ids.device)
    out = model.get_decoder()(
        input_ids=ids[None], position_ids=positions[None], use_cache=False, attention_mask=unread, **{_READER: reader}
    )
    states: Tensor = out.last_hidden_state[0]
    return states


def hidden_states(model: Any, packed: Packed) -> Float[Tensor, "token hidden"]:
    """The last layer's states of every token of a packed row, without the output head."""
    if route_of(model, packed.route, int(packed.positions.max()) + 1) == "packed":
        segments = packed.segments

        def reader(_: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
            return attend(q, k, v, segments, scale=scale)

        return states_of(model, packed.ids, packed.positions, reader)
    return _padded(model, packed)


def route_of(model: PreTrainedModel, wanted: Route, longest: int) -> Route:
    """How the model reads texts of up to `longest` tokens: as is wanted, where it can."""
    return "padded" if wanted == "padded" or why_padded(model, longest) else "packed"


def why_padded(model: PreTrainedModel, longest: int) -> str | None:
    """Why texts of up to `longest` tokens must be padded for this model as it is now; None where they need not."""
    if not hasattr(model, _REASON):
        setattr(model, _REASON, _checked(model))
        setattr(model, _SAID, set())
    config = model.config.get_text_config()
    reason: str | None = getattr(model, _REASON)
    if reason is None and model.training and _drops_weights(config):
        reason = "it drops attention weights while it learns"
    if reason is None and (window := _window(config)) is not None and window < longest:
        reason = f"its window of {window} tokens is shorter than its texts"
    if reason is not None and reason not in getattr(model, _SAID):
        getattr(model, _SAID).add(reason)
        log.warning("%s: %s; rows are padded", type(model).__name__, reason)
    return reason


def drops(model: nn.Module) -> bool:
    """Whether a model reads otherwise while it learns than it does in eval mode, by chance."""
    layers = any(isinstance(module, nn.Dropout) and module.p for module in model.modules())
    config = getattr(model, "config", None)
    return layers or (config is not None and _drops_weights(config.get_text_config()))


def _drops_weights(config: Any) -> bool:
    return any(getattr(config, name, None) for name in _DROPOUTS)


def _window(config: Any) -> int | None:
    """The tokens that some layer sees at most."""
    kinds = getattr(config, "layer_types", None)
    windowed = getattr(config, "use_sliding_window", True) if kinds is None else "sliding_attention" in kinds
    return getattr(config, "sliding_window", None) if windowed else None


def _checked(model: PreTrainedModel) -> str | None:
    """Prepares a model, then reads two short texts packed and padded: why they differ, if they do."""
    config = model.config.get_text_config()
    before = config._attn_implementation
    if before not in ("sdpa", "eager", NAME):
        return f"its attention is {before!r}"
    if model._is_stateful:
        return "it carries a state along a row"
    if not model._can_set_attn_implementation():
        return "it has no exchangeable attention"
    model.set_attn_implementation(NAME)
    try:
        reason = _compared(model)
    except (TypeError, _Unsaid) as error:
        reason = f"its attention takes what ours does not ({error})"
    if reason is not None:
        model.set_attn_implementation(before)
    return reason


@torch.no_grad()
def _compared(model: PreTrainedModel) -> str | None:
    asked: list[int] = []
    size = model.get_input_embeddings().weight.shape[0]
    ids = [(7 * place + 3) % size for place in range(6)]
    packed = pack([Tree(ids[:3], [ids[3:], ids[2:5]]), Tree([], [ids[:2]])]).to(model.device)

    def reader(layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        asked.append(layer)
        return attend(q, k, v, packed.segments, scale=scale)

    with evaluating(model):
        found = states_of(model, packed.ids, packed.positions, reader).float()
        expected = _padded(model, packed).float()
    if sorted(asked) != list(range(model.config.get_text_config().num_hidden_layers)):
        return "not every layer asks the attention interface"
    if not (found - expected).norm() <= _TOLERANCE * expected.norm():
        return "packed texts read otherwise than padded ones"
    return None


def _padded(model: Any, packed: Packed) -> Tensor:
    """The states of a packed row by right-padded texts; pads stand right of every token, so none can reach one."""
    whole = texts(packed)
    width = max(map(len, whole))
    index = torch.stack([torch.nn.functional.pad(text, (0, width - len(text))) for text in whole])
    ids = packed.ids[index.to(packed.ids.device)]
    # without a reader the model builds its own causal mask
    states: Tensor = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    first = torch.full(packed.ids.shape, -1, dtype=torch.int64)
    for row, text in reversed(list(enumerate(whole))):
        first[text] = row * width + torch.arange(len(text))
    return states.flatten(0, 1)[first.to(states.device)]


class _Unsaid(Exception):
    """The model hands its attention something that ours would pass over."""


def attend_packed(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, **rest: Any) -> tuple[Tensor, Any]:
    """What transformers asks in a layer: the reader's answer where there is one, else its own attention.

    Raises for what a reader would pass over.
    """
    reader: Reader | None = rest.pop(_READER, None)
    if reader is None:
        result: tuple[Tensor, Any] = sdpa_attention_forward(module, q, k, v, mask, **rest)
        return result
    if unsaid := [name for name in _UNSAID if rest.get(name) is not None]:
        raise _Unsaid(", ".join(unsaid))
    if rest.get("dropout"):
        raise _Unsaid("dropout of attention weights")
    if q.shape[-1] != v.shape[-1]:
        raise _Unsaid("values of another width than queries")
    scale = rest.get("scaling") or q.shape[-1] ** -0.5
    # Under autocast the rotation leaves float32 queries and keys beside values of half precision. On a CPU attention in
    # half precision takes five times as long as in float32, and its gradient seven times: there readers get float32,
    # and what they keep is float32.
    given = v.dtype
    dtype = torch.float32 if given.itemsize < 4 and q.device.type == "cpu" else given
    q, k, v = (x[0].transpose(0, 1).to(dtype) for x in (q, k, v))
    return reader(module.layer_idx, q, k, v, scale)[None].to(given), None


AttentionInterface.register(NAME, attend_packed)
AttentionMaskInterface.register(NAME, sdpa_mask)

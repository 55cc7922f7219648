"""Family by family, what is asked, learned, sampled and scored agrees with what the tokenizer's template writes."""

from __future__ import annotations

import unicodedata

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from model_families import FAMILIES, TEMPLATED, family

from cai_lightning.models.encoding import control_ids, decode
from cai_lightning.models.format import Format
from cai_lightning.text.dialogue import Message, human

ROLES = {"system": "system", "human": "user", "assistant": "assistant"}
SYSTEM = Message("system", "Answer in one sentence.")
SINGLE = human("Why is the sky blue?")
TURNS = (
    *human("I left the garden gate open (again)!\nWhat should I do?"),
    Message("assistant", "Close it, and call your neighbour: 220 steps."),
    *human("It's late... shall I?"),
)
REPLY = "Yes, it's best to call now.\n\n1. Be polite (really)\n2. Thank her!"
# how a template writes system words, from its text: in a turn of its own, or within a human turn
FOLDING = ("llama2", "mistral1", "gemma")
# what the templates write as control tokens, that is, what no turn may
CONTROLS = {
    "llama3": ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_of_text|>"],
    "llama3_base": ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_of_text|>"],
    "llama2": ["<s>", "</s>", "<unk>"],
    "mistral1": ["<s>", "</s>"],
    "mistral3": ["<s>", "</s>", "[INST]", "[/INST]"],
    "zephyr": ["<s>", "</s>"],
    "qwen2": ["<|im_start|>", "<|im_end|>", "<|endoftext|>"],
    "qwen3": ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>"],
    "gpt2": ["<|endoftext|>"],
    "gemma": ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"],
}
ENDS = {
    "llama3": "<|eot_id|>",
    "llama3_base": "<|eot_id|>",
    "qwen2": "<|im_end|>",
    "qwen3": "<|im_end|>",
    "gpt2": "<|endoftext|>",
    "gemma": "<end_of_turn>",
} | dict.fromkeys(("llama2", "mistral1", "mistral3", "zephyr"), "</s>")
STARTS = {
    "llama3": "<|begin_of_text|>",
    "llama3_base": "<|begin_of_text|>",
    "gemma": "<bos>",
} | dict.fromkeys(("llama2", "mistral1", "mistral3"), "<s>")
BYTE_LEVEL = ("llama3", "llama3_base", "qwen2", "qwen3", "gpt2")


def library(name, dialogue, *, opened):
    """The ids of a dialogue by the library's own path, on the day that our formats live in."""
    messages = [{"role": ROLES[turn.role], "content": turn.content} for turn in dialogue]
    found = family(name).apply_chat_template(
        messages, add_generation_prompt=opened, tokenize=True, date_string="26 Jul 2024", enable_thinking=False
    )
    return found["input_ids"]


def ids_of(name, text):
    """A text's ids, its control tokens read as such."""
    return family(name)(text, add_special_tokens=False).input_ids


def prompt(name, dialogue):
    return Format(family(name)).prompt_ids([dialogue])[0]


def name_id(name, piece):
    return family(name).convert_tokens_to_ids(piece)


@pytest.mark.parametrize("dialogue", [SINGLE, TURNS], ids=["single", "turns"])
@pytest.mark.parametrize("name", TEMPLATED)
def test_prompts_are_the_librarys_own_and_replies_go_on_as_the_template_writes_them(name, dialogue):
    format = Format(family(name))
    ids, reply = format.prompt_ids([dialogue])[0], format.reply_ids([REPLY])[0]
    assert ids == library(name, dialogue, opened=True)
    whole = library(name, (*dialogue, Message("assistant", REPLY)), opened=False)
    assert ids + reply == whole[: len(ids) + len(reply)]
    # behind the end token a template writes a line break at most
    assert family(name).decode(whole[len(ids) + len(reply) :]).strip() == ""


@pytest.mark.parametrize("name", [name for name in TEMPLATED if name not in FOLDING])
def test_system_turns_go_where_the_template_puts_them(name):
    for dialogue in ((SYSTEM, *SINGLE), (SYSTEM, *TURNS)):
        assert prompt(name, dialogue) == library(name, dialogue, opened=True)
        assert "Answer in one sentence." in family(name).decode(prompt(name, dialogue))


@pytest.mark.parametrize("name", FOLDING)
def test_system_turns_fold_into_the_first_human_one_where_there_is_no_such_role(name):
    folded = human("Answer in one sentence.\n\nWhy is the sky blue?")
    assert prompt(name, (SYSTEM, *SINGLE)) == library(name, folded, opened=True)
    first = Message("human", f"{SYSTEM.content}\n\n{TURNS[0].content}")
    assert prompt(name, (SYSTEM, *TURNS)) == library(name, (first, *TURNS[1:]), opened=True)


STRICT = ["llama2", "mistral1", "mistral3", "gemma"]


@pytest.mark.parametrize("name", STRICT)
def test_neighbours_of_one_speaker_become_one_turn_where_roles_must_alternate(name):
    twice, once = (*SINGLE, *human("Well?")), human(f"{SINGLE[0].content}\n\nWell?")
    assert prompt(name, twice) == library(name, once, opened=True)


@pytest.mark.parametrize("name", STRICT)
def test_turns_out_of_order_make_one_clear_line(name):
    reversed_ = (Message("assistant", "Hello."), *SINGLE)
    with pytest.raises(
        ValueError, match=r"^prompt 1 of 2: .*refuses the turns \(assistant, user\): .*must alternate"
    ) as error:
        Format(family(name)).prompt_ids([SINGLE, reversed_])
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="prompt 0 of 1: the prompt is empty"):
        prompt(name, ())


@pytest.mark.parametrize("name", ["llama3", "zephyr", "qwen2", "qwen3"])
def test_two_turns_of_one_speaker_stay_two_where_the_template_takes_them(name):
    twice = (*SINGLE, *human("Well?"))
    assert prompt(name, twice) == library(name, twice, opened=True)


@pytest.mark.parametrize("name", FAMILIES)
def test_prompts_begin_with_one_start_token_where_the_model_has_one(name):
    format, start = Format(family(name)), STARTS.get(name)
    number = family(name).bos_token_id
    for dialogue in (SINGLE, TURNS, (SYSTEM, *TURNS), (*TURNS, Message("assistant", "Yes,"))):
        ids = format.prompt_ids([dialogue])[0]
        # Llama 2 begins anew at every human turn
        expected = 0 if start is None else 2 if name == "llama2" and len(dialogue) > 2 else 1
        assert ids.count(number) == (expected if name != "gpt2" else 0)
        assert start is None or (ids[0] == name_id(name, start) and ids[1] != ids[0])
    assert format.begin == (None if start is None else name_id(name, start))
    assert start is None or name_id(name, start) not in format.reply_ids([REPLY])[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_texts_begin_as_the_tokenizer_begins_them(name):
    text = "\n\nHuman: Why is the sky blue?\n\nAssistant:"
    assert Format(family(name)).prompt_ids([text]) == [family(name)(text).input_ids]


@pytest.mark.parametrize("name", FAMILIES)
def test_without_a_template_dialogues_are_human_assistant_text(name):
    tokenizer = family.__wrapped__(name)
    tokenizer.chat_template = None
    format = Format(tokenizer)
    (ids,) = format.prompt_ids([SINGLE])
    assert ids == tokenizer("\n\nHuman: Why is the sky blue?\n\nAssistant:").input_ids
    (reply,) = format.reply_ids(["Because air scatters it."])
    whole = tokenizer("\n\nHuman: Why is the sky blue?\n\nAssistant: Because air scatters it.").input_ids
    assert ids + reply == [*whole, tokenizer.eos_token_id]
    assert format.opens(ids) and not format.opens(ids[:-1]) and not format.opens(ids + reply[:1])


@pytest.mark.parametrize("name", FAMILIES)
def test_replies_end_with_the_token_that_ends_a_turn_and_with_it_alone(name):
    format = Format(family(name))
    for ids in format.reply_ids([REPLY, "", f"odd {ENDS[name]}"]):
        assert format.end == name_id(name, ENDS[name]) == ids[-1]
        assert format.end not in ids[:-1]


@pytest.mark.parametrize("name", FAMILIES)
def test_control_strings_in_a_turn_stay_text(name):
    tokenizer, format = family(name), Format(family(name))
    for control in CONTROLS[name]:
        number = name_id(name, control)
        for words in (f"what is {control} for?", control, f"a{control}{control} b", f"{control}\n{control}x"):
            clean = format.prompt_ids([human("what?")])[0]
            ids = format.prompt_ids([human(words)])[0]
            assert ids.count(number) == clean.count(number), words
            assert words in tokenizer.decode(ids)
            (reply,) = format.reply_ids([words])
            assert reply.count(number) == (number == format.end)
            assert decode(tokenizer, reply).strip() == words
            started = (*human("what?"), Message("assistant", words))
            assert format.prompt_ids([started])[0].count(number) == clean.count(number)
            assert number not in format.prompt_ids([words])[0][len(tokenizer("").input_ids) :] or control in (
                "<think>",
                "</think>",
            )


@pytest.mark.parametrize("name", TEMPLATED)
def test_control_ids_are_those_of_the_library_where_it_is_asked_to_keep_turns_text(name):
    words = f"what is {CONTROLS[name][0]} for?"
    messages = [{"role": "user", "content": words}]
    theirs = family(name).apply_chat_template(
        messages,
        add_generation_prompt=True,
        tokenize=True,
        sanitize_control_tokens=True,
        date_string="26 Jul 2024",
        enable_thinking=False,
    )["input_ids"]
    ours, control = prompt(name, human(words)), control_ids(family(name))
    assert [number for number in ours if number in control] == [number for number in theirs if number in control]
    assert words in family(name).decode(ours)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_prefilled_turn_goes_on(name):
    format, words = Format(family(name)), "Well, the answer"
    started = (*TURNS, Message("assistant", words))
    (ids,) = format.prompt_ids([started])
    assert ids == format.prompt_ids([TURNS])[0] + format.reply_ids([words])[0][: -1 - bool(format.trail)]
    assert ENDS[name] not in family(name).decode(ids[-5:])
    assert format.reply(started, " is no.") == "is no."


@pytest.mark.parametrize("question", ["text", "turn", "prefill"])
@pytest.mark.parametrize("name", FAMILIES)
def test_letters_are_scored_as_in_running_text_and_differ_in_one_token(name, question):
    format, tokenizer = Format(family(name)), family(name)
    asked = {
        "text": "\n\nConsider this.\n\nThe answer is:",
        "turn": human("Which is better, (A) or (B)?"),
        "prefill": (*human("Which is better, (A) or (B)?"), Message("assistant", "The answer is:")),
    }[question]
    ids, tails = format.spans(asked, (" (A)", " (B)"))
    assert ids == format.prompt_ids([asked])[0]
    assert sum(a != b for a, b in zip(*tails, strict=True)) == 1
    words = "(A)" if question == "turn" else " (A)"
    running = format.text(asked) + (format.lead if question == "turn" else "") + words
    assert ids[len(ids) - len(ids_of(name, format.text(asked))) :] + tails[0] == ids_of(name, running)
    assert decode(tokenizer, ids + tails[1]).endswith("(B)")
    pieces = format.verified_letters(asked, (" (A)", " (B)"))
    assert list(pieces) == [" (A)", " (B)"]
    assert [tokenizer.convert_tokens_to_ids(those) for those in pieces.values()] == tails


@pytest.mark.parametrize("letters", [(" (A)", " (BB)"), (" (A)", " (A)"), (" (A) x", " (B) y"), (" yes", " no, never")])
def test_letters_that_compare_more_than_letters_are_refused(letters):
    with pytest.raises(ValueError, match="not equally many tokens that differ in one place"):
        Format(family("qwen2")).verified_letters("The answer is:", letters)
    assert len(Format(family("qwen2")).verified_letters("is:", (" (A)", " (B)", " (C)"))) == 3


@pytest.mark.parametrize("name", FAMILIES)
def test_shortening_drops_whole_turns_keeps_the_system_turn_and_never_empties(name):
    format = Format(family(name))
    long = (SYSTEM, *(turn for _ in range(4) for turn in TURNS[:2]), *SINGLE)
    expected = [format.prompt_ids([(SYSTEM, *long[at:])])[0] for at in range(1, len(long), 2)]
    sizes = [len(ids) for ids in expected]
    assert sizes == sorted(sizes, reverse=True)
    for size, ids in zip(sizes, expected, strict=True):
        for inside in (True, False):
            assert format.fitted(long, size, inside=inside) == (ids, size < sizes[0])
            assert format.fitted(long, size + 1, inside=inside) == (ids, size < sizes[0])
    assert format.fitted(long, sizes[-1] - 1, inside=False) is None
    for room in (0, 1, 5):
        assert format.fitted(SINGLE, room, inside=False) is None


@pytest.mark.parametrize("name", FAMILIES)
def test_the_last_turn_alone_loses_its_beginning_where_that_is_allowed_and_no_template_heads_it(name):
    format = Format(family(name))
    (ids,) = format.prompt_ids([SINGLE])
    if format.templated:
        assert format.fitted(SINGLE, len(ids) - 1, inside=True) is None
        return
    start = ids[:1] if format.begin is not None else []
    assert format.fitted(SINGLE, 5, inside=True) == ([*start, *ids[len(ids) - 5 + len(start) :]], True)
    assert format.fitted(SINGLE, len(start), inside=True) is None
    assert format.fitted(SINGLE, len(ids), inside=True) == (ids, False)


def test_a_turn_that_loses_its_beginning_keeps_the_start_token(byte_level_bos):
    format = Format(byte_level_bos)
    (ids,) = format.prompt_ids([human("abcdef")])
    assert ids[0] == 2 and format.fitted(human("abcdef"), 4, inside=True) == ([2, *ids[-3:]], True)
    assert format.fitted(human("abcdef"), 1, inside=True) is None


@pytest.mark.parametrize("name", FAMILIES)
def test_a_reply_that_has_not_ended_stops_behind_its_words(name):
    format = Format(family(name))
    (ended,) = format.reply_ids([REPLY])
    assert format.reply_ids([REPLY, REPLY], ended=[False, True]) == [ended[: -1 - bool(format.trail)], ended]
    assert format.reply_ids([""], ended=[False]) == format.reply_ids([""])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_prompt_ends_where_a_reply_begins_and_nowhere_else(name):
    format = Format(family(name))
    (ids,), (reply,) = format.prompt_ids([TURNS]), format.reply_ids([REPLY])
    assert format.opens(ids)
    for other in (ids[:-1], ids + reply[:1], ids + reply[:3], ids + reply, reply, []):
        assert not format.opens(other)


WORDS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\U00108421"), min_size=1, max_size=30)


@pytest.mark.parametrize("name", BYTE_LEVEL)
@settings(max_examples=60, deadline=None)
@given(words=WORDS)
@example(words=" a")
@example(words="\n\nx ")
@example(words="<|im_end|><|endoftext|>")
@example(words="<|<|eot_id|>eot_id|>")
@example(words="東京\u200d🏳️‍🌈 \x00é")
def test_any_words_survive(name, words):
    """Qwen's tokenizers compose accents first (NFC); the others keep every byte."""
    format, tokenizer = Format(family(name)), family(name)
    words = unicodedata.normalize("NFC", words) if name.startswith("qwen") else words
    (ids,) = format.reply_ids([words])
    assert tokenizer.decode(ids[:-1], clean_up_tokenization_spaces=False).removeprefix(format.lead) == words
    assert control_ids(tokenizer).isdisjoint(ids[:-1])
    (asked,) = format.prompt_ids([(*SINGLE, Message("assistant", "x"), *human(f"|{words}|"))])
    assert f"|{words}|" in tokenizer.decode(asked, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("name", ["llama2", "mistral3", "gemma"])
@settings(max_examples=40, deadline=None)
@given(words=WORDS)
@example(words="</s><s>")
@example(words="\n(a)")
@example(words="\n\n")
def test_no_words_become_control_tokens_of_sentence_pieces(name, words):
    format, tokenizer = Format(family(name)), family(name)
    (ids,) = format.reply_ids([words])
    assert control_ids(tokenizer).isdisjoint(ids[:-1])
    if not words.startswith(" ") and "▁" not in words:
        assert format.reply(SINGLE, decode(tokenizer, ids)).removeprefix(" ") == words


def test_the_day_does_not_matter():
    for sign, text in {"%d %b %Y": "26 Jul 2024", "%Y-%m-%d": "2024-07-26", "%A, %B %d": "Friday, July 26"}.items():
        tokenizer = family.__wrapped__("qwen2")
        tokenizer.chat_template = (
            "{%- set today = strftime_now('" + sign + "') %}{{ today }}\n" + tokenizer.chat_template
        )
        assert Format(tokenizer).text(SINGLE).startswith(text)


def test_a_template_that_opens_no_turn_gets_its_header_from_the_replies_it_writes():
    tokenizer = family.__wrapped__("qwen2")
    tokenizer.chat_template = (
        "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
        "{% endfor %}"
    )
    format = Format(tokenizer)
    assert format.text(SINGLE).endswith("<|im_end|>\n<|im_start|>assistant\n") and format.lead == ""
    assert format.opening == "<|im_end|>\n<|im_start|>assistant\n"
    tokenizer.chat_template = (
        "{% for message in messages %}{{ ('Q: ' if message.role == 'user' else 'A: ') + message.content + '\n' }}"
        "{% endfor %}"
    )
    format = Format(tokenizer)
    assert (format.text(SINGLE), format.lead) == ("Q: Why is the sky blue?\nA:", " ")
    # the template writes no end token, so the tokenizer's own ends a reply
    assert format.reply_ids(["x"]) == [[*tokenizer(" x").input_ids, tokenizer.eos_token_id]]


def test_a_template_that_writes_replies_otherwise_than_it_opens_them_is_refused():
    tokenizer = family.__wrapped__("qwen2")
    tokenizer.chat_template += "{% if add_generation_prompt %}<tool_call>{% endif %}"
    with pytest.raises(ValueError, match=r"opens a reply with .*<tool_call>' but does not write replies so; put in"):
        Format(tokenizer)


def test_a_reply_that_merges_with_what_stands_before_it_is_read_elsewhere():
    """Gemma's line breaks are tokens, longest first: one behind "model\\n" would change the prompt's own ids."""
    format, tokenizer = Format(family("gemma")), family("gemma")
    (ids,) = format.reply_ids(["\nfirst"])
    assert decode(tokenizer, ids) == "\nfirst"
    assert format.opens(format.prompt_ids([SINGLE])[0])


def test_a_tokenizer_without_bytes_refuses_control_strings(words):
    words.chat_template = "{% for m in messages %}{{ m.content }}<eos>{% endfor %}"
    format = Format(words)
    assert format.reply_ids([" sure ."]) == [[*words(" sure .").input_ids, 1]]
    with pytest.raises(ValueError, match=r"holds a control token of the tokenizer: '.*a<eos>'; remove it"):
        format.reply_ids([" a<eos>"])


def test_text_replies_lose_what_the_format_puts_around_them():
    assert Format(family("llama2")).reply(SINGLE, " Yes. ") == "Yes."
    assert Format(family("qwen2")).reply(SINGLE, " Yes. ") == " Yes. "
    assert Format(family("gpt2")).reply(SINGLE, " Yes. ") == "Yes. "
    assert Format(family("llama2")).reply("a text:", " Yes. ") == "Yes. "


def test_ids_are_made_the_same_one_by_one():
    format = Format(family("zephyr"))
    prompts = [SINGLE, "a text:", TURNS, human("</s> hm"), (SYSTEM, *TURNS)]
    assert format.prompt_ids(prompts) == [format.prompt_ids([one])[0] for one in prompts]
    assert format.prompt_ids([]) == format.reply_ids([]) == []
    assert torch.tensor(format.reply_ids(["x", "y"])).shape[0] == 2

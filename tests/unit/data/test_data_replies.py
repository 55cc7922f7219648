from cai_lightning.data.reading import Read
from cai_lightning.data.replies import replies_alone, reply_texts
from cai_lightning.text.dialogue import human, prompt_text
from cai_lightning.text.records import Label, Prompt

PROMPT = Prompt(id="p", dialogue=human("why"), source="test", kind="red_team", cluster="c")
LABEL = Label(
    id="l", prompt=PROMPT, a="x", b="y", p_a=1.0, logit_ab=None, logit_ba=None, principle=None, principle_hash=None,
    model=None, source="file", weight=1.0,
)  # fmt: skip


def test_nothing_of_the_prompt_is_left_to_read_but_its_cluster() -> None:
    found = replies_alone(labels=Read([LABEL], {"empty_reply": 2}))
    (row,) = found.rows
    assert prompt_text(row.prompt.dialogue) == "\n\nAssistant:"
    assert (row.id, row.a, row.b, row.prompt.id, row.prompt.cluster) == ("l", "x", "y", "p", "c")
    assert found.dropped == {"empty_reply": 2}


def test_plain_lists_are_readings_too() -> None:
    assert replies_alone(labels=[LABEL]).rows == replies_alone(labels=Read([LABEL], {})).rows


def test_a_base_model_reads_every_prompt_once_and_both_replies() -> None:
    assert reply_texts(labels=[LABEL]).rows == ["\n\nHuman: why\n\nAssistant: x", "\n\nAssistant: y"]

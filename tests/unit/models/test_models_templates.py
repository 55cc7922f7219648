from __future__ import annotations

import json

import pytest
from model_families import MAKERS
from transformers import AutoTokenizer

from cai_lightning.models import templates
from cai_lightning.models.format import Format
from cai_lightning.text.dialogue import human

ASKED = human("Why?")


@pytest.fixture(params=["jinja file", "in the settings", "several"])
def folder(request, tmp_path):
    """A tokenizer's folder with a template in each of the places that the library reads."""
    tokenizer = MAKERS["qwen2"]()
    if request.param == "several":
        tokenizer.chat_template = {"default": tokenizer.chat_template, "tool_use": "{{ 'tools' }}"}
    tokenizer.save_pretrained(tmp_path, save_jinja_files=True)
    if request.param == "in the settings":
        settings = tmp_path / "tokenizer_config.json"
        found = json.loads(settings.read_text(encoding="utf-8"))
        found["chat_template"] = (tmp_path / "chat_template.jinja").read_text(encoding="utf-8")
        settings.write_text(json.dumps(found), encoding="utf-8")
        (tmp_path / "chat_template.jinja").unlink()
    return tmp_path


def text(folder):
    format = Format(AutoTokenizer.from_pretrained(folder, local_files_only=True))
    return format.templated, format.text(ASKED)


def test_a_folders_own_template_stays(folder):
    templates.own(folder)
    templated, found = text(folder)
    assert templated and found.endswith("<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n")


def test_without_a_template_it_is_human_assistant_text_wherever_the_template_was(folder):
    templates.human_assistant(folder)
    assert text(folder) == (False, "\n\nHuman: Why?\n\nAssistant:")


def test_a_file_takes_the_place_of_every_other_template(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("mine") / "mine.jinja"
    path.write_text(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}",
        encoding="utf-8",
    )
    templates.file(folder, path=path)
    assert text(folder) == (True, "user: Why?<|im_end|>assistant: ")

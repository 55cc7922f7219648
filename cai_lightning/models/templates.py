"""Which chat template a model folder has after it was taken over: its own, one of a file, or none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from cai_lightning.text.artifacts import Source

FILE = "chat_template.jinja"
_OTHERS = "additional_chat_templates"
_SETTINGS = "tokenizer_config.json"


def own(folder: Path) -> None:
    """The folder's own template; without one, dialogues are Human/Assistant text."""


def human_assistant(folder: Path) -> None:
    """No template, so that dialogues are Human/Assistant text."""
    (folder / FILE).unlink(missing_ok=True)
    shutil.rmtree(folder / _OTHERS, ignore_errors=True)
    settings = folder / _SETTINGS
    if settings.is_file() and "chat_template" in (found := json.loads(settings.read_text(encoding="utf-8"))):
        del found["chat_template"]
        settings.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def file(folder: Path, *, path: Source) -> None:
    """The template in the Jinja file `path`, in place of the folder's own."""
    text = Path(path).read_text(encoding="utf-8")
    human_assistant(folder)
    (folder / FILE).write_text(text, encoding="utf-8")

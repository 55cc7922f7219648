"""What kind of artifact a path holds, as annotations; the pipeline compares the strings along its edges.

A stage annotates its upstream paths and its return value with these. `Source` is outside data: it is named by
what it contains, never by a key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

Source = Annotated[Path, "source"]

PromptRows = Annotated[Path, "rows/prompt"]
ResponseRows = Annotated[Path, "rows/response"]
RevisionRows = Annotated[Path, "rows/revision"]
ComparisonRows = Annotated[Path, "rows/comparison"]
LabelRows = Annotated[Path, "rows/label"]
RatingRows = Annotated[Path, "rows/rating"]
ReferenceRows = Annotated[Path, "rows/reference"]
AnswerRows = Annotated[Path, "rows/answer"]
VerdictRows = Annotated[Path, "rows/verdict"]
AssessmentRows = Annotated[Path, "rows/assessment"]

CausalLM = Annotated[Path, "causal_lm"]
RewardModel = Annotated[Path, "reward_model"]
Table = Annotated[Path, "table"]

"""The sections of the page, one question per file.

`answer(run, prefix)` returns the blocks that answer a question, or None if it does not apply. A
sentence explains missing data. Ids in the blocks begin with `prefix`.
"""

from collections.abc import Callable

from absl import logging

from simclrv2_tf.report.page import blocks
from simclrv2_tf.report.page.runs import Run
from simclrv2_tf.report.page.sections import (
    commands,
    confidence,
    cost,
    few_labels,
    images,
    mistakes,
    more_labels,
    pretraining,
    representation,
    verdict,
)

# Name, question and answer, in the order of the page.
_QUESTIONS = (
    ("verdict", verdict.QUESTION, verdict.answer),
    ("few-labels", few_labels.QUESTION, few_labels.answer),
    ("more-labels", more_labels.QUESTION, more_labels.answer),
    ("pretraining", pretraining.QUESTION, pretraining.answer),
    ("representation", representation.QUESTION, representation.answer),
    ("mistakes", mistakes.QUESTION, mistakes.answer),
    ("confidence", confidence.QUESTION, confidence.answer),
    ("data", images.QUESTION, images.answer),
    ("cost", cost.QUESTION, cost.answer),
    ("reproduce", "Reproduce", commands.reproduce),
    ("use", "Use it", commands.use),
)


def of_run(run: Run, prefix: str) -> list[blocks.Section]:
    """Returns the sections that apply to a run; their ids begin with `prefix`."""
    found = []
    for name, question, answer in _QUESTIONS:
        answered = answered_or_said(question, run.path, lambda a=answer, n=name: a(run, prefix + n))
        if answered is not None:
            found.append(blocks.Section(f"{prefix}{name}", question, answered))
    return found


def answered_or_said(
    question: str, path: str, answer: Callable[[], list[blocks.Block] | None]
) -> list[blocks.Block] | None:
    """Returns the result of `answer`, or a sentence if it raises, so that others are shown."""
    try:
        return answer()
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        logging.warning("The section %r of the report of %s failed (%s).", question, path, reason)
        return [blocks.Text(f"This section failed ({reason}).")]

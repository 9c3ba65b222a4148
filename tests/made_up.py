"""Answers that fake heads cannot compute: maps and moves as the contract has them, for any labels."""

import math
from collections.abc import Sequence

TIMING = {"decode": 1.0, "queue": 0.1, "inference": 20.0, "total": 21.1}
OFFSETS = [[right, down] for down in (-16, -8, 0, 8, 16) for right in (-16, -8, 0, 8, 16)]


def explained(head: str, labels: Sequence[str], wanted: str | None, side: int = 7) -> dict:
    """Of the class `wanted` (default: the first): a hill in one corner, a valley in the other."""
    index = labels.index(wanted) if wanted in labels else 0
    shift = 0.4 * index + len(head)
    grid = [
        [math.sin(0.6 * row + shift) * math.cos(0.5 * column - shift) for column in range(side)]
        for row in range(side)
    ]
    constant = 0.25
    result = {
        "index": index,
        "label": labels[index],
        "probability": 0.5 / (index + 1),
        "logit": sum(map(sum, grid)) + constant,
        "constant": constant,
        "grid": grid,
    }
    return {"head": head, "version": 1, "engine": "openvino", "results": [result], "timing_ms": TIMING}


def shifted(heads: Sequence[str], labels: Sequence[str], offsets: Sequence[Sequence[int]]) -> dict:
    """Every head answers the first label, but the second where the picture moved over 10 px right."""
    return {
        "offsets": offsets,
        "heads": [_shifted(head, labels, offsets) for head in heads],
        "timing_ms": TIMING,
    }


def _shifted(head: str, labels: Sequence[str], offsets: Sequence[Sequence[int]]) -> dict:
    answers = []
    for right, down in offsets:
        index = int(right > 10)
        kept = max(0.01, 0.8 - 0.02 * abs(right) - 0.005 * abs(down))
        probability = kept if index == 0 else 0.6
        answers.append(
            {"index": index, "label": labels[index], "probability": probability, "kept": kept}
        )
    drifts = [abs(answer["kept"] - 0.8) for answer in answers]
    return {
        "head": head,
        "version": 1,
        "engine": "openvino",
        "index": 0,
        "label": labels[0],
        "probability": 0.8,
        "stability": sum(answer["index"] == 0 for answer in answers) / len(answers),
        "drift_mean": sum(drifts) / len(drifts),
        "drift_max": max(drifts),
        "answers": answers,
    }

"""What findings score that look at no scan: drawn with the training data's frequencies, or always the commonest."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from nirvana_mri.findings.statement import Cells, Statement
from nirvana_mri.findings.vocabulary import Vocabulary

Answer = tuple[Statement, ...]


def chance(training: Sequence[Answer], count: int, seed: int = 0) -> list[Answer]:
    """``count`` answers, each that of a training slice drawn by seed: right labels, numbers and places on average."""
    draw = np.random.default_rng(seed)
    return [training[int(draw.integers(len(training)))] for _ in range(count)]


def majority(training: Sequence[Answer], vocabulary: Vocabulary) -> Answer:
    """The one answer of whatever more than half of the training slices show, each at its commonest place."""
    places: dict[str, Counter[Cells]] = {}
    slices: Counter[str] = Counter()
    for answer in training:
        slices.update({each.label for each in answer if each.cells is not None})
        for each in answer:
            if each.cells is not None:
                places.setdefault(each.label, Counter())[each.cells] += 1
    common = [label for label, number in slices.items() if 2 * number > len(training)]
    return vocabulary.answer(Statement(label, places[label].most_common(1)[0][0]) for label in common)

"""How alike the texts of draft findings and of the truth are: BLEU and ROUGE-L, by their usual libraries."""

from collections.abc import Iterable, Sequence
from typing import Any

from nirvana_mri.errors import DataError, MissingExtraError
from nirvana_mri.findings.finding import Finding
from nirvana_mri.findings.statement import Statement, cells_of, words_of

NOTE = "likeness of words alone: a text that denies everything resembles any other; read beside precision and recall"


def words_of_findings(findings: Iterable[Finding], matrix: tuple[int, int]) -> str:
    """The statements as the vocabulary writes them, without watermark and scores; boxes by their cells."""
    return words_of(Statement(each.label, None if each.negated else cells_of(each.box, matrix)) for each in findings)


def text_scores(said: Sequence[str], true: Sequence[str]) -> dict[str, Any]:
    """BLEU (sacrebleu, corpus, 0 to 100) and ROUGE-L (rouge-score, mean F, 0 to 1), JSON-ready.

    Raises: MissingExtraError without the extra ``findings``, DataError where the texts are not pairs.
    """
    if len(said) != len(true) or not said:
        raise DataError(f"{len(said)} texts beside {len(true)} true ones; expected as many, at least one")
    try:
        from rouge_score.rouge_scorer import RougeScorer
        from sacrebleu.metrics.bleu import BLEU
    except ImportError:
        raise MissingExtraError("BLEU and ROUGE", "findings") from None
    bleu = BLEU()
    rouge = RougeScorer(["rougeL"])
    likeness = [rouge.score(right, text)["rougeL"].fmeasure for text, right in zip(said, true, strict=True)]
    return {
        "bleu": float(bleu.corpus_score(list(said), [list(true)]).score),
        "bleu_signature": str(bleu.get_signature()),
        "rouge_l": sum(likeness) / len(likeness),
        "note": NOTE,
    }

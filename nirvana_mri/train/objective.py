"""What a stage makes small, and how well it does on what was held out: pictures, or words."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from nirvana_mri.backbone.tokenizer import Tokenizer
from nirvana_mri.errors import UsageError
from nirvana_mri.figures import Panel, comparison, save_png
from nirvana_mri.findings.grammar import Grammar
from nirvana_mri.findings.statement import GRID, Statement, parse
from nirvana_mri.findings.vocabulary import Vocabulary, vocabulary
from nirvana_mri.language.loss import next_token_loss
from nirvana_mri.recon.model import NirvanaRecon
from nirvana_mri.train.config import TrainConfig
from nirvana_mri.train.data import Example
from nirvana_mri.train.exchange import Exchange
from nirvana_mri.train.loss import image_loss, ssim

SIGHT = 30.0  # weight of the map's mean loss over its cells, of which few show anything, beside that of a word
WORDS_SHARE = 0.1  # of their gradient that reaches what a map of labels is read from
Lowered = Callable[[], AbstractContextManager[Any]]


class Objective(nn.Module):
    """A model whose output is the sum of its losses over some examples of one matrix.

    ``scores`` names what validation measures, the first of them decides which weights are the best.
    """

    scores: ClassVar[tuple[str, ...]]
    higher_is_better: ClassVar[bool]
    protocol: ClassVar[str]

    def __init__(self, model: NirvanaRecon, lowered: Lowered) -> None:
        super().__init__()
        self.model = model
        self.lowered = lowered

    @abstractmethod
    def forward(self, examples: list[Example]) -> Tensor:
        """The sum of their losses."""

    @abstractmethod
    def judge(self, example: Example, show: Path | None, title: str) -> tuple[float, ...]:
        """The scores of one example, which is drawn to a file where one is named."""

    def better(self, new: dict[str, float], old: dict[str, float]) -> bool:
        name = self.scores[0]
        return not old or (new[name] > old[name] if self.higher_is_better else new[name] < old[name])


class ImageObjective(Objective):
    """1 − SSIM and a little L1 between the picture and the fully sampled one (stages decoder and joint)."""

    scores = ("ssim", "psnr")
    higher_is_better = True
    protocol = "mean over fixed held-out examples of the training's own masks and noise; compare within a run only"

    def __init__(self, model: NirvanaRecon, lowered: Lowered, l1_weight: float) -> None:
        super().__init__(model, lowered)
        self.l1_weight = l1_weight

    def forward(self, examples: list[Example]) -> Tensor:
        images = self._images(examples)
        losses = [
            image_loss(_picture(example, image), example.target, example.data_range, self.l1_weight)
            for example, image in zip(examples, images, strict=True)
        ]
        return torch.stack(losses).sum()

    def _images(self, examples: list[Example]) -> list[Tensor]:
        with self.lowered():
            found: list[Tensor] = self.model([example.problem for example in examples])
        return found

    def judge(self, example: Example, show: Path | None, title: str) -> tuple[float, ...]:
        picture = _picture(example, self._images([example])[0])
        if show is not None:
            _draw(example, picture, show, title)
        error = float((picture - example.target).square().mean())
        return _similarity(example, picture), 10 * math.log10(example.data_range**2 / error)


class AnswerObjective(Objective):
    """Cross-entropy of an answer's tokens, read after the scan's tokens and the question, through the frozen language
    model (stage encoder; arXiv 2510.26083, stage 1). Labels are the next tokens; scan, question and padding are not
    scored.

    A free answer is compared with every token that there is. Findings are compared with the tokens that their
    vocabulary allows, at the places where it leaves a choice: what a draft is later chosen by.

    An encoder that knows the labels of a vocabulary learns these answers in two parts. Its map of labels is compared
    with the cells that the answer names, and what it tells of a map with the answer: of its own map, and of the true
    one, so that it learns to speak while it learns to see. Words do not reach the map, which they spoil.
    """

    scores = ("answer_loss",)
    higher_is_better = False
    protocol = (
        "nats per token (of findings: per choice that their vocabulary leaves) of the answers to fixed held-out "
        "examples; compare within a run only"
    )

    def __init__(self, model: NirvanaRecon, lowered: Lowered, tokenizer: Tokenizer, taught: str | None = None) -> None:
        """``taught`` names the vocabulary whose labels the encoder knows, if it knows any."""
        super().__init__(model, lowered)
        self.tokenizer = tokenizer
        self.taught = taught if model.knows_labels else None
        self._grammars: dict[str, Grammar] = {}

    def forward(self, examples: list[Example]) -> Tensor:
        model, encoder = self.model, self.model.encoder
        mapped = [row for row, example in enumerate(examples) if self._is_mapped(example)]
        free = [row for row in range(len(examples)) if row not in mapped]
        with self.lowered():
            patches = model.patches([example.problem for example in examples])
        # Each weight takes part, if with nothing: processes with other examples wait for its gradient.
        total = torch.stack([parameter.sum() for parameter in encoder.parameters()]).sum() * 0
        if free:
            seen = patches[free]
            if self.taught is not None:
                seen = WORDS_SHARE * seen + (1 - WORDS_SHARE) * seen.detach()
            with self.lowered():
                scan = encoder.tokens(seen)
            total = total + self._losses([examples[row] for row in free], scan).sum()
        if mapped:
            chosen = [examples[row] for row in mapped]
            with self.lowered():
                logits = model.label_map(patches[mapped], [example.problem for example in chosen]).float()
                truth = torch.stack([self._truth(example) for example in chosen]).to(logits)
                told = encoder.speaker(torch.cat([logits.detach().sigmoid(), truth]))
            total = total + SIGHT * F.binary_cross_entropy_with_logits(logits, truth) * len(chosen)
            total = total + self._losses(chosen * 2, told, after=True).sum() / 2
        return total

    def _is_mapped(self, example: Example) -> bool:
        assert example.exchange is not None
        return self.taught is not None and example.exchange.vocabulary == self.taught

    def _truth(self, example: Example) -> Tensor:
        assert example.exchange is not None
        assert self.taught is not None
        said = parse(example.exchange.response)
        return cells_with(said, vocabulary(self.taught), self.model.config.encoder.cells)

    def _losses(self, examples: list[Example], scan: Tensor, after: bool = False) -> Tensor:
        """Of each example's answer, when the language model was given these tokens of its scan, and the question; with
        ``after``, for which all must have one question, in the other order.
        """
        backbone = self.model.backbone
        assert backbone is not None
        texts = [self._ids(example) for example in examples]
        longest = max(len(prompt) + len(response) for prompt, response in texts)
        rows = [[*prompt, *response, *[0] * (longest - len(prompt) - len(response))] for prompt, response in texts]
        with self.lowered():
            words = backbone.embedding(torch.tensor(rows, device=backbone.embedding.weight.device))
            before = len(texts[0][0]) if after else 0
            given = torch.cat([words[:, :before], scan, words[:, before:]], dim=1)
            # Causal: what stands after an answer has no influence on it.
            hidden = backbone(inputs_embeds=given, compute_logits=False).final_hidden
        losses = []
        for row, (prompt, response) in enumerate(texts):
            first = scan.shape[1] + len(prompt) - 1  # the token before the answer predicts its first one
            reading = hidden[row, first : first + len(response)]
            losses.append(self._loss(reading, backbone.head_weight, response, examples[row].exchange))
        return torch.stack(losses)

    def _loss(self, hidden: Tensor, head: Tensor, response: list[int], exchange: Exchange | None) -> Tensor:
        """Mean over the answer's tokens, or over the choices among the vocabulary's."""
        labels = torch.tensor(response, device=hidden.device)
        if exchange is None or exchange.vocabulary is None:
            return next_token_loss(hidden, head, labels)
        allowed = self._grammar(exchange.vocabulary).choices(response)
        places = [place for place, tokens in enumerate(allowed) if len(tokens) > 1]
        shut = torch.ones(len(places), len(head), dtype=torch.bool)
        for row, place in enumerate(places):
            shut[row, allowed[place]] = False
        logits = (hidden[places] @ head.to(hidden.dtype).T).float().masked_fill(shut.to(hidden.device), -torch.inf)
        return F.cross_entropy(logits, labels[places])

    def _grammar(self, name: str) -> Grammar:
        if name not in self._grammars:
            self._grammars[name] = Grammar(vocabulary(name), self.tokenizer)
        return self._grammars[name]

    def _ids(self, example: Example) -> tuple[list[int], list[int]]:
        """Question and answer as ids; the answer ends with the mark of an end."""
        assert example.exchange is not None
        prompt, response = (
            self.tokenizer.encode(f" {text}") for text in (example.exchange.prompt, example.exchange.response)
        )
        return prompt, [*response, self.tokenizer.end_id]

    def judge(self, example: Example, show: Path | None, title: str) -> tuple[float, ...]:
        mapped = self._is_mapped(example)
        with self.lowered():
            scan = (self.model.told if mapped else self.model.tokens)([example.problem])
        return (float(self._losses([example], scan, after=mapped)),)


def cells_with(said: Iterable[Statement], spoken: Vocabulary, size: int = GRID) -> Float[Tensor, "label cell cell"]:
    """1 in the cells where a label is said to be, 0 elsewhere."""
    names = [label.name for label in spoken.labels]
    cells = torch.zeros(len(names), size, size)
    for statement in said:
        if statement.cells is not None:
            top, bottom, left, right = statement.cells
            cells[names.index(statement.label), top - 1 : bottom, left - 1 : right] = 1
    return cells


def make_objective(config: TrainConfig, model: NirvanaRecon, lowered: Lowered, taught: str | None = None) -> Objective:
    """``taught`` names the vocabulary of findings that stage encoder teaches. Raises: UsageError for the stage that
    needs a language model which has read language, and for an encoder that was made for another number of labels.
    """
    if config.stage != "encoder":
        return ImageObjective(model, lowered, config.l1_weight)
    if model.tokenizer is None:
        raise UsageError(
            f"stage encoder learns words through a language model that knows some; this model's backbone is "
            f"{model.config.backbone!r}: choose --backbone pretrained"
        )
    known = model.config.encoder.labels
    if taught is not None and known not in (0, len(vocabulary(taught).labels)):
        raise UsageError(
            f"the encoder to go on with knows {known} labels, the vocabulary {taught!r} has "
            f"{len(vocabulary(taught).labels)}; begin with another model, or anew"
        )
    return AnswerObjective(model, lowered, model.tokenizer, taught)


def _picture(example: Example, image: Tensor) -> Tensor:
    return example.problem.finish(image) / example.problem.scale


def _similarity(example: Example, picture: Tensor) -> float:
    return float(ssim(picture / example.data_range, example.target / example.data_range, 1.0))


def _draw(example: Example, picture: Tensor, path: Path, title: str) -> None:
    problem = example.problem
    before = _picture(example, problem.operator.adjoint(problem.data))
    panels = [
        Panel(name, shown.cpu().numpy(), f"SSIM {_similarity(example, shown):.3f}")
        for name, shown in (("zero-filled", before), ("nirvana", picture))
    ]
    save_png(comparison(panels, example.target.cpu().numpy(), title), path)

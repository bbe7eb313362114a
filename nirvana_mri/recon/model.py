"""NirvanaRecon: k-space encoder → frozen language model → image decoder."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from nirvana_mri.backbone import BackboneConfig, NirvanaLM, load_backbone
from nirvana_mri.backbone.file import stored_tokenizer
from nirvana_mri.backbone.shipped import shipped_backbone
from nirvana_mri.backbone.tokenizer import BPETokenizer
from nirvana_mri.codecs import ImageDecoder, ImageDecoderConfig, KSpaceEncoder, KSpaceEncoderConfig
from nirvana_mri.codecs.image_decoder import Measurement
from nirvana_mri.codecs.kspace_encoder import log_magnitude, patch_states
from nirvana_mri.errors import UsageError
from nirvana_mri.physics.consistency import conjugate_gradient
from nirvana_mri.physics.fourier import fft1c
from nirvana_mri.recon.problem import SliceProblem
from nirvana_mri.recon.support import faded

START_STEPS = 8  # conjugate gradients before the first cascade
FADING = 2.5  # power of the certainty that fades the maps: milder than the classical methods need
START_PRIOR = 0.02  # weight of the zero image there, where the maps hold; 1 is added where they do not
BACKBONES = ("pretrained", "random", "none")
MOST_PASSES = 4


@dataclass(frozen=True)
class NirvanaReconConfig:
    """A whole model. ``backbone`` says what stands in the middle: ``pretrained`` (the shipped one, which has read
    language), ``random`` or, as an ablation, ``none`` (tokens pass straight on).

    The patches are read ``passes`` times in a row, and the states of the last time are used: in a causal model the
    first patch sees nothing in the first. ``trigger`` False switches the learning at test time off.
    """

    lm: BackboneConfig
    encoder: KSpaceEncoderConfig
    decoder: ImageDecoderConfig
    backbone: str = "random"
    backbone_seed: int = 0
    passes: int = 1
    trigger: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.passes <= MOST_PASSES:
            raise UsageError(f"passes is {self.passes}; expected 1 to {MOST_PASSES}")
        if self.backbone not in BACKBONES:
            raise UsageError(f"backbone is {self.backbone!r}; expected one of {', '.join(BACKBONES)}")
        for name, width in (("encoder", self.encoder.backbone_width), ("decoder", self.decoder.backbone_width)):
            if width != self.lm.hidden_size:
                raise UsageError(f"the {name} speaks to width {width}, the backbone has {self.lm.hidden_size}")

    @classmethod
    def nano(cls, lm: BackboneConfig | None = None, **changes: Any) -> "NirvanaReconConfig":
        """The preset that ships with the project, round its language model or another."""
        lm = lm or BackboneConfig.nano()
        return replace(cls(lm, KSpaceEncoderConfig(lm.hidden_size), ImageDecoderConfig(lm.hidden_size)), **changes)

    @classmethod
    def base(cls, lm: BackboneConfig | None = None, **changes: Any) -> "NirvanaReconConfig":
        """Codecs round the published 1.3B language model or another."""
        lm = lm or BackboneConfig.base()
        encoder = KSpaceEncoderConfig(lm.hidden_size, width=384, depth=8, heads=6)
        decoder = ImageDecoderConfig(lm.hidden_size, cascades=8, widths=(96, 160, 256), token_width=128)
        return replace(cls(lm, encoder, decoder), **changes)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; :meth:`from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "NirvanaReconConfig":
        decoder = dict(values["decoder"], widths=tuple(values["decoder"]["widths"]))
        rest = {key: value for key, value in values.items() if key not in ("lm", "encoder", "decoder")}
        return cls(
            BackboneConfig(**values["lm"]),
            KSpaceEncoderConfig(**values["encoder"]),
            ImageDecoderConfig(**decoder),
            **rest,
        )


class NirvanaRecon(nn.Module):
    """Reconstruct slices with a language model in the middle, whose weights never move.

    The backbone is frozen here, by the wiring: its parameters ask for no gradient and it stays in eval mode, while
    gradients pass through it to the encoder.
    """

    def __init__(
        self, config: NirvanaReconConfig, backbone: NirvanaLM | None = None, tokenizer: BPETokenizer | None = None
    ) -> None:
        """``backbone`` and its ``tokenizer`` (None: it reads no words) replace those that the configuration names,
        where its weights come from elsewhere.
        """
        super().__init__()
        self.config = config
        if backbone is None and config.backbone == "pretrained":
            tokenizer = stored_tokenizer(shipped_backbone("nano"))
        self.tokenizer = tokenizer
        self.encoder = KSpaceEncoder(config.encoder)
        self.backbone = _backbone(config) if backbone is None else backbone
        if self.backbone is not None and self.backbone.trigger is not None and not config.trigger:
            self.backbone.trigger.rate = 0.0
        self.decoder = ImageDecoder(config.decoder)

    def train(self, mode: bool = True) -> "NirvanaRecon":
        super().train(mode)
        if self.backbone is not None:
            self.backbone.eval()
        return self

    def forward(self, problems: Sequence[SliceProblem]) -> list[Complex[Tensor, "ny nx"]]:
        """Complex images, each on its problem's scale. All problems must have one picture size."""
        starts, measurements, pictures, scales = [], [], [], []
        for problem in problems:
            start, measurement, scale = _of_order_one(problem)
            starts.append(start)
            measurements.append(measurement)
            pictures.append(_log_kspace(problem))
            scales.append(scale)
        start = torch.stack(starts)
        states = self.states(start, torch.stack(pictures))
        images = self.decoder(start, states, measurements)
        return [image * scale for image, scale in zip(images, scales, strict=True)]

    def tokens(self, problems: Sequence[SliceProblem]) -> Float[Tensor, "batch token channel"]:
        """What the language model is given of each problem, in the place of words. All must have one picture size."""
        return self.encoder.tokens(self.patches(problems))

    @property
    def knows_labels(self) -> bool:
        """Whether findings are told by :meth:`told`, after the question, or by all :meth:`tokens`, before it."""
        return self.config.encoder.labels > 0

    def told(self, problems: Sequence[SliceProblem]) -> Float[Tensor, "batch token channel"]:
        """The few tokens of each problem's map of labels."""
        found: Tensor = self.encoder.speaker(self.label_map(self.patches(problems), problems).sigmoid())
        return found

    def label_map(
        self, patches: Float[Tensor, "batch gy gx width"], problems: Sequence[SliceProblem]
    ) -> Float[Tensor, "batch label cell cell"]:
        """Logits of each label in each cell of the finished pictures; only of an encoder that knows labels."""
        _, ny, nx = problems[0].data.shape
        return torch.cat(
            [
                self.encoder.sight(patches[number : number + 1], (ny, nx), problem.crop)
                for number, problem in enumerate(problems)
            ]
        )

    def patches(self, problems: Sequence[SliceProblem]) -> Float[Tensor, "batch gy gx width"]:
        """What the encoder sees of each problem, patch by patch. All must have one picture size."""
        starts = torch.stack([_of_order_one(problem)[0] for problem in problems])
        return self.encoder.patches(starts, torch.stack([_log_kspace(problem) for problem in problems]))

    def states(
        self, image: Complex[Tensor, "batch ny nx"], log_kspace: Float[Tensor, "batch ny nx"]
    ) -> Float[Tensor, "batch gy gx channel"]:
        """What the language model makes of each patch."""
        tokens, grid = self.encoder(image, log_kspace)
        once = tokens.shape[1]
        if self.backbone is not None:
            read = tokens.repeat(1, self.config.passes, 1)
            tokens = self.backbone(inputs_embeds=read, compute_logits=False).final_hidden[:, -once:]
        return patch_states(tokens, grid)


def _backbone(config: NirvanaReconConfig) -> NirvanaLM | None:
    """The language model that the configuration names, frozen, in float32."""
    if config.backbone == "none":
        return None
    if config.backbone == "random":
        return random_backbone(config.lm, config.backbone_seed)
    model = load_backbone(shipped_backbone("nano"), dtype=torch.float32)
    if replace(model.config, initializer_range=config.lm.initializer_range) != config.lm:  # drawn long ago
        raise UsageError("the shipped backbone has other sizes than this model; choose backbone 'random' or 'none'")
    return model


def random_backbone(config: BackboneConfig, seed: int) -> NirvanaLM:
    """A frozen language model with drawn weights, rounded to bfloat16 so that a checkpoint stores them without loss."""
    model = NirvanaLM(config, seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16().to(parameter.dtype))
    return model.requires_grad_(False).eval()


def _of_order_one(problem: SliceProblem) -> tuple[Tensor, Measurement, Tensor]:
    """A first image by conjugate gradients and the measurement, both divided by the image's own level, and what undoes
    it.

    Both see the object through faded maps, so that the fading is part of the way back. The level is Σ|x|² / Σ|x|, the
    mean magnitude weighted by itself: a large empty background hardly moves it. Differentiable in the data, but for the
    level.
    """
    operator, fading = faded(problem, FADING)
    adjoint = operator.adjoint(problem.data)
    prior = START_PRIOR + (1 - problem.certainty)

    def system(x: Tensor) -> Tensor:
        return operator.normal(x) + prior * x

    start = conjugate_gradient(system, adjoint, torch.zeros_like(adjoint), START_STEPS)
    size = start.detach().abs()
    level = float(size.square().sum() / size.sum())
    measurement = Measurement(operator, adjoint / level, problem.certainty, problem.sigma / level)
    return start / level, measurement, level * fading


def _log_kspace(problem: SliceProblem) -> Float[Tensor, "ny nx"]:
    kspace = fft1c(problem.data, dim=-2) if problem.operator.hybrid else problem.data
    return log_magnitude(kspace, problem.operator.mask)

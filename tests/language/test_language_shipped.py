"""The shipped backbone: small, described, able to read, repeatable."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nirvana_mri.backbone import BackboneConfig, inspect_backbone
from nirvana_mri.backbone.shipped import shipped_backbone
from nirvana_mri.language import LanguageModel, load_language_model, perplexity

PARAGRAPH = """\
The rain had stopped before morning, and when she opened the window the garden smelled of wet earth. Nobody had come in
the night. The letter still lay on the table, where her brother had left it, and she read it again, slowly, as if it
might say something else this time. Then she put on her coat, took the key from its nail behind the door, and went out.
"""


@pytest.fixture(scope="module")
def nano() -> LanguageModel:
    return load_language_model("nano")


def test_it_is_small_and_its_card_names_it(nano: LanguageModel) -> None:
    path = shipped_backbone()
    assert path.stat().st_size < 20e6
    card = path.with_suffix(".md").read_text()
    about = inspect_backbone(path)
    preset = BackboneConfig.nano()
    assert replace(about.config, initializer_range=preset.initializer_range) == preset
    assert about.sha256 == nano.sha256
    for named in (nano.sha256, nano.tokenizer.sha256, "not for clinical use", f"{about.source['tokens']:,} tokens"):
        assert named in card


def test_it_reads_english_better_than_letters_alone_allow(nano: LanguageModel) -> None:
    """An order-0 model of English letters needs above 4 bits a byte; shuffled words cost what their order told."""
    score = perplexity(nano, PARAGRAPH)
    assert score.bits_per_byte < 2.0
    words = PARAGRAPH.split()
    shuffled = " ".join(words[::2] + words[1::2])
    assert perplexity(nano, shuffled).bits_per_byte > 1.2 * score.bits_per_byte


def test_it_reads_wikitext(nano: LanguageModel, shared_data: Path) -> None:
    text = (shared_data / "text" / "wikitext2_test.txt").read_text(encoding="utf-8")
    assert perplexity(nano, text, limit=6000).bits_per_byte < 2.1


def test_the_same_seed_writes_the_same_text(nano: LanguageModel) -> None:
    ids = torch.tensor([[nano.tokenizer.end_id, *nano.tokenizer.encode("The doctor said that")]])
    one, two = (
        nano.model.generate(input_ids=ids, max_new_tokens=12, temperature=0.8, seed=seed).tolist() for seed in (0, 0)
    )
    assert one == two
    assert nano.tokenizer.decode(one[0]).strip()

"""Text to token ids and back: byte-level BPE of our own, or the tokenizer that belongs to published weights."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from nirvana_mri.errors import CheckpointError, MissingExtraError, UsageError

SPECIAL = ("<unk>", "<s>", "</s>")  # ids 0, 1, 2, as in the published model; text never becomes one of them
LARGEST_FILE = 64 * 2**20  # bytes
# Words with the space before them, single digits, runs of other signs, white space up to a line end.
WORDS = r"'(?:[sdmt]|ll|ve|re)\b| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


class Tokenizer(ABC):
    """What reads and writes text for a model; end_id is the token that ends a document.

    sha256 names the tokenizer: files of equal content have equal names.
    """

    end_id: int

    @property
    @abstractmethod
    def vocab_size(self) -> int: ...

    @property
    @abstractmethod
    def sha256(self) -> str: ...

    @abstractmethod
    def encode(self, text: str) -> list[int]: ...

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str: ...


class BPETokenizer(Tokenizer):
    """A tokenizer.json, as the tokenizers library writes it. Words like ``</s>`` in a text stay text."""

    def __init__(self, serialised: str, where: str = "tokenizer") -> None:
        from tokenizers import Tokenizer as Library

        try:
            self._library = Library.from_str(serialised)
        except Exception as problem:  # the library raises nothing narrower
            raise CheckpointError(f"{where}: not a tokenizer.json ({problem!s:.120}); damaged file?") from problem
        self._library.encode_special_tokens = True
        self._library.no_padding()
        self._library.no_truncation()
        self.serialised = serialised
        self.end_id = self._end(where)

    @property
    def vocab_size(self) -> int:
        return self._library.get_vocab_size(with_added_tokens=True)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.serialised.encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without any marks at its ends. A lone surrogate, which is no text, is a UsageError."""
        try:
            return self._library.encode(text, add_special_tokens=False).ids
        except (TypeError, UnicodeEncodeError) as problem:
            raise UsageError(f"text holds what is no Unicode text ({problem!s:.80}); decode it as UTF-8") from problem

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; marks of beginnings and ends are left out."""
        return self._library.decode(list(ids), skip_special_tokens=True)

    def __repr__(self) -> str:
        return f"BPETokenizer({self.vocab_size:,} tokens, sha256 {self.sha256[:12]})"

    def _end(self, where: str) -> int:
        for name in ("</s>", "<|endoftext|>", "<|end_of_text|>"):
            if (found := self._library.token_to_id(name)) is not None:
                return found
        raise CheckpointError(f"{where}: has no token that ends a document (</s>); choose the model's own tokenizer")


class SentencePieceTokenizer(Tokenizer):
    """The ``tokenizer.model`` of the published weights (Llama, Mistral); needs the extra ``text``."""

    def __init__(self, path: Path) -> None:
        try:
            import sentencepiece
        except ImportError as problem:
            raise MissingExtraError(f"{path.name} (SentencePiece)", "text") from problem
        content = path.read_bytes()
        self._library = sentencepiece.SentencePieceProcessor()
        try:
            self._library.LoadFromSerializedProto(content)
        except RuntimeError as problem:
            raise CheckpointError(f"{path}: not a SentencePiece model; damaged file?") from problem
        self._sha256 = hashlib.sha256(content).hexdigest()
        self.end_id = self._library.eos_id()

    @property
    def vocab_size(self) -> int:
        return self._library.vocab_size()

    @property
    def sha256(self) -> str:
        return self._sha256

    def encode(self, text: str) -> list[int]:
        return self._library.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self._library.decode([i for i in ids if i not in (self.end_id, self._library.bos_id())])


def train_tokenizer(
    texts: Iterable[str], vocab_size: int = 8192, progress: Callable[[int], None] | None = None
) -> BPETokenizer:
    """A byte-level BPE learned from texts: every text can be written in it, and comes back byte for byte.

    The same texts in the same order give the same tokenizer. Raises: UsageError for a vocabulary smaller than the
    bytes.
    """
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
    from tokenizers import Tokenizer as Library

    if vocab_size < 256 + len(SPECIAL):
        raise UsageError(f"vocab_size is {vocab_size}; expected at least {256 + len(SPECIAL)}: all bytes and marks")
    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    library.train_from_iterator(_counted(texts, progress), trainer)
    return BPETokenizer(library.to_str())


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer in a file (tokenizer.json, or tokenizer.model of SentencePiece), or in a folder with one of them.

    Raises: UsageError where there is none, CheckpointError where it is damaged or far too large.
    """
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in ("tokenizer.json", "tokenizer.model") if (path / name).is_file()]
        if not found:
            raise UsageError(f"{path}: holds neither tokenizer.json nor tokenizer.model; name the tokenizer's file")
        path = found[0]
    if not path.is_file():
        raise UsageError(f"{path}: no such file; expected tokenizer.json or tokenizer.model")
    if (size := path.stat().st_size) > LARGEST_FILE:
        raise CheckpointError(f"{path}: {size:,} bytes; a tokenizer has at most {LARGEST_FILE:,}")
    if path.suffix == ".model":
        return SentencePieceTokenizer(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as problem:
        raise CheckpointError(f"{path}: not a tokenizer.json (no UTF-8 text); damaged file?") from problem
    return BPETokenizer(text, str(path))


def save_tokenizer(tokenizer: BPETokenizer, path: str | Path) -> None:
    """Write a tokenizer.json, whole or not at all."""
    from nirvana_mri.atomic import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(tokenizer.serialised, encoding="utf-8")


def require_fit(tokenizer: Tokenizer, vocab_size: int, expected_sha256: str | None, where: str = "the model") -> None:
    """Nothing where a tokenizer belongs to a model; else UsageError.

    A model that names its tokenizer takes no other; one that does not (published weights) needs at least as many rows.
    """
    if expected_sha256 is not None and tokenizer.sha256 != expected_sha256:
        raise UsageError(
            f"the tokenizer ({tokenizer.vocab_size:,} tokens, sha256 {tokenizer.sha256[:12]}) does not match {where}, "
            f"which was trained with {expected_sha256[:12]}; leave --tokenizer out, or name the one it was trained with"
        )
    if tokenizer.vocab_size > vocab_size:
        raise UsageError(
            f"the tokenizer has {tokenizer.vocab_size:,} tokens, {where} only {vocab_size:,}; take the model's own"
        )


def _counted(texts: Iterable[str], progress: Callable[[int], None] | None) -> Any:
    for number, text in enumerate(texts, start=1):
        if progress is not None:
            progress(number)
        yield text

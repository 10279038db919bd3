"""What an import of tokens is asked for, and whether that suits the table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyfactory.core.digest import digest_of, digest_of_file
from pyfactory.core.durable import translate_os_error
from pyfactory.errors import InvalidInputError
from pyfactory.job.steps.tokenizer_file import TokenizerFile, from_tokenizer_json
from pyfactory.repo.objects import TableState
from pyfactory.shard.importers.token_files import TokenFormat

__all__ = ["TokenOptions"]

_NO_APPEND = -1


@dataclass(frozen=True, slots=True)
class TokenOptions:
    """What the caller asked for.

    Attributes:
        format: How files are written.
        dtype: Of flat files.
        eos: The token that ends documents.
        lengths: The file of the lengths of documents.
        tokenizer: The tokenizer.
        vocab_size: What tokens must be less than.
    """

    format: TokenFormat
    dtype: str | None
    eos: int | None
    lengths: Path | None
    tokenizer: TokenizerFile | None
    vocab_size: int | None

    @classmethod
    def parse(
        cls,
        format: str,
        dtype: str | None,
        eos: int | None,
        lengths: str | Path | None,
        tokenizer: str | Path | None,
        vocab_size: int | None,
    ) -> TokenOptions:
        """Return the options, having read the tokenizer; InvalidInputError if they contradict each other."""
        if format not in list(TokenFormat):
            raise InvalidInputError(f"{format!r} is no format of tokens", hint=f"choose {', '.join(TokenFormat)}")
        if eos is not None and lengths is not None:
            raise InvalidInputError("documents end by eos or by their lengths, not by both", hint="leave one out")
        if vocab_size is not None and not 1 <= vocab_size <= 2**32:
            raise InvalidInputError(f"a vocabulary of {vocab_size} cannot be", hint="choose 1 to 4294967296")
        file = None if tokenizer is None else _tokenizer(Path(tokenizer), vocab_size)
        return cls(TokenFormat(format), dtype, eos, None if lengths is None else Path(lengths), file, vocab_size)

    @property
    def append(self) -> int:
        """The token that ends every document, as a table says it."""
        return _NO_APPEND if self.eos is None else self.eos

    def to_value(self) -> dict[str, Any]:
        """Return the canonical value that a commit keeps, by which the same import is known again."""
        lengths = None
        if self.lengths is not None:
            with translate_os_error(self.lengths):
                lengths = digest_of_file(self.lengths)
        tokenizer = None if self.tokenizer is None else digest_of(self.tokenizer.content)
        value = {"format": self.format.value, "dtype": self.dtype, "eos": self.eos, "doc_lengths": lengths}
        return value | {"tokenizer": tokenizer, "vocab_size": self.vocab_size}

    def vocabulary(self, state: TableState | None) -> int | None:
        """Return what tokens must be less than: as was asked for, else as the table or the tokenizer says."""
        if self.vocab_size is not None:
            return self.vocab_size
        if state is not None:
            return int(state.attributes["vocab_size"])
        return None if self.tokenizer is None else self.tokenizer.vocab_size

    def check_table(self, table: str, state: TableState) -> None:
        """Raise InvalidInputError if a table that is there contradicts the options."""
        if "width" not in state.attributes:
            raise InvalidInputError(f"table {table!r} holds no tokens", hint="import them into another table")
        append, size, width = (int(state.attributes[name]) for name in ("append", "vocab_size", "width"))
        if append not in (_NO_APPEND, self.eos):
            hint = f"give eos {append}, or another table"
            raise InvalidInputError(f"every document of table {table!r} ends with the token {append}", hint=hint)
        if self.vocab_size is not None and not size <= self.vocab_size <= 256**width:
            raise InvalidInputError(
                f"table {table!r} has a vocabulary of {size} in tokens of {width} bytes, not {self.vocab_size}",
                hint=f"choose {size} to {256**width}, or another table",
            )
        if self.tokenizer is not None and digest_of(self.tokenizer.content) != state.artifacts.get("tokenizer"):
            raise InvalidInputError(f"table {table!r} has another tokenizer, or none", hint="choose another table")


def _tokenizer(path: Path, vocab_size: int | None) -> TokenizerFile:
    with translate_os_error(path):
        content = path.read_bytes()
    file = from_tokenizer_json(content, str(path))
    if vocab_size is not None and vocab_size < file.vocab_size:
        raise InvalidInputError(
            f"{path} has {file.vocab_size} tokens, more than vocab_size {vocab_size}",
            hint="leave vocab_size out, or give the other tokenizer",
        )
    return file

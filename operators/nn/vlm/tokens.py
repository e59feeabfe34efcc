"""Words to token numbers: CLIP's byte pairs out of a `tokenizer.json`, and hashes for small models.

Source: Sennrich et al., ACL 2016 (arXiv:1508.07909), section 3.2; Radford et al., ICML 2021
(arXiv:2103.00020), section 2.4. Both classes satisfy the interface's `Tokenizer`.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from operators.nn.vlm.errors import CheckpointError

if TYPE_CHECKING:
    import tokenizers

BEGIN = "<|startoftext|>"
END = "<|endoftext|>"


class BytePairTokenizer:
    """What a `tokenizer.json` says, without its begin, end, padding and truncation."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        """CheckpointError if the vocabulary lacks CLIP's begin or end token."""
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.begin = _special(tokenizer, BEGIN)
        self.end = _special(tokenizer, END)
        self.vocabulary: int = tokenizer.get_vocab_size()
        self._tokenizer = tokenizer

    @classmethod
    def from_file(cls, path: Path) -> BytePairTokenizer:
        """CheckpointError if the file is not a CLIP tokenizer."""
        import tokenizers

        try:
            tokenizer = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise
        except Exception as error:  # the library raises no narrower one
            raise CheckpointError(f"{path.name} is no tokenizer: {error}") from error
        return cls(tokenizer)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without begin and end; a text of none gives none."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


class HashTokenizer:
    """Every word and every sign has the number of its SHA-256: no vocabulary to keep.

    For models that were never trained, such as `clip-tiny-test`: two words may share a number.
    Begin and end are the two highest numbers, as in CLIP.
    """

    def __init__(self, vocabulary: int) -> None:
        """`vocabulary`: numbers there are, begin and end included; ValueError below 3."""
        if vocabulary < 3:
            raise ValueError(f"a vocabulary of {vocabulary} has no room for words")
        self.vocabulary = vocabulary
        self.begin = vocabulary - 2
        self.end = vocabulary - 1

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without begin and end; upper and lower case are the same."""
        words = re.findall(r"\w+|[^\w\s]", unicodedata.normalize("NFC", text).lower())
        return [self._number(word) for word in words]

    def _number(self, word: str) -> int:
        digest = hashlib.sha256(word.encode()).digest()
        return int.from_bytes(digest[:8], "big") % (self.vocabulary - 2)


def _special(tokenizer: tokenizers.Tokenizer, word: str) -> int:
    token = tokenizer.token_to_id(word)
    if token is None:
        raise CheckpointError(f"this is no tokenizer of CLIP: its vocabulary lacks {word}")
    return int(token)

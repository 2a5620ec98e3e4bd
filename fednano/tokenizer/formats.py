"""File formats of vocabularies: fednano's own and those of other libraries.

fednano's own file is one JSON object, `{"checksum":"SHA256","format":"fednano-tokenizer","version":2,…}`. The
checksum is the SHA-256, in hexadecimal, of the file's bytes after the comma that follows it. "merges" is one string:
the ids of all pairs in order, separated by spaces. "byte_order" is present only if the bytes are not their own ids.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fednano.core.files import write_whole
from fednano.tokenizer.settings import BYTES

FORMAT, VERSION = "fednano-tokenizer", 2


class OutdatedError(ValueError):
    """The file has the format of an earlier release."""


def write_own(path: Path, identity: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Write fednano's file. `identity` holds everything that decides the ids, as `read_own` returns it."""
    merges = " ".join(map(str, np.ravel(identity["merges"]).tolist()))
    content = {"format": FORMAT, "version": VERSION, **identity, "merges": merges, "meta": meta}
    text = json.dumps(content, separators=(",", ":"))[1:].encode()
    write_whole(path, _opening(text) + text)


def read_own(path: Path) -> dict[str, Any]:
    """The content that `write_own` wrote: pattern, special_tokens, merges (2n,) uint32, byte_order if any, and meta.

    Raises OutdatedError for a file of an earlier version, ValueError for one that is damaged or of another kind.
    """
    try:
        data = path.read_bytes()
        content = json.loads(data)
        found = (content.pop("format"), content.pop("version"))
        if found[0] == FORMAT and found[1] in range(1, VERSION):
            raise OutdatedError(f"it says version {found[1]}")
        if found != (FORMAT, VERSION):
            raise ValueError(f"it says {found[0]!r}, version {found[1]!r}")
        start = len(_opening(b""))
        if data[:start] != _opening(data[start:]):
            raise ValueError("the checksum does not match the content")
        del content["checksum"]
        content["merges"] = np.fromstring(content["merges"], np.uint32, sep=" ")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise refusal(path, error) from error
    return dict(content)


def refusal(path: Path, error: Exception) -> ValueError:
    kind = OutdatedError if isinstance(error, OutdatedError) else ValueError
    return kind(f"{path} is not an intact {FORMAT} file of version {VERSION} ({error}); delete it and train again")


def _opening(text: bytes) -> bytes:
    from hashlib import sha256

    return b'{"checksum":"%s",' % sha256(text).hexdigest().encode()


def ranks_of(tokens: Sequence[bytes]) -> dict[bytes, int]:
    """The id of each token by its bytes. Raises ValueError if two tokens have the same bytes."""
    ranks = {token: token_id for token_id, token in enumerate(tokens)}
    for token_id, token in enumerate(tokens):
        if ranks[token] != token_id:
            raise ValueError(
                f"the ids {token_id} and {ranks[token]} both stand for {token!r}, which other formats cannot store; "
                "train the tokenizer again"
            )
    return ranks


def from_ranks(ranks: Mapping[bytes, int]) -> tuple[bytes, list[tuple[int, int]]]:
    """The order of the bytes (256,) and the merges, recovered from tiktoken's ranks, which map each token's bytes.

    A token's merge is the pair that its bytes form when only lower ranks are merged. Raises ValueError, which names the
    token, if there is no such pair or a byte or a rank is missing.
    """
    tokens = sorted(ranks, key=ranks.__getitem__)
    for due, token in enumerate(tokens):
        if ranks[token] != due:
            raise ValueError(f"the rank of {token!r} in ranks must be {due}, got {ranks[token]}; number all from 0 on")
    for byte in range(BYTES):
        token = bytes([byte])
        if ranks.get(token, BYTES) >= BYTES:
            raise ValueError(
                f"ranks must have {token!r} among its first {BYTES}; begin with the single bytes, in any order"
            )
    return b"".join(tokens[:BYTES]), [_pair(token, ranks) for token in tokens[BYTES:]]


def _pair(token: bytes, ranks: Mapping[bytes, int]) -> tuple[int, int]:
    own = ranks[token]
    ends = list(range(len(token) + 1))
    while len(ends) > 3:
        joined = [ranks.get(token[ends[at] : ends[at + 2]], own) for at in range(len(ends) - 2)]
        lowest = min(joined)
        if lowest >= own:
            break
        del ends[joined.index(lowest) + 1]
    if len(ends) != 3:
        raise ValueError(
            f"ranks holds {token!r} at {own}, which lower ranks merge into {len(ends) - 1} tokens instead of 2; pass "
            "ranks that byte-level BPE has found"
        )
    return ranks[token[: ends[1]]], ranks[token[ends[1] :]]


def specials_after(first: int, special_tokens: Mapping[str, int]) -> list[str]:
    """The special tokens in order of their ids. Raises ValueError unless the ids count up from `first`."""
    names = sorted(special_tokens, key=special_tokens.__getitem__)
    for due, name in enumerate(names, first):
        if special_tokens[name] != due:
            raise ValueError(
                f"the id of {name!r} in special_tokens must be {due}, got {special_tokens[name]}; number them from "
                f"{first} on, right after the ranks, and fill gaps with names of your own"
            )
    return names


def byte_characters() -> list[str]:
    """Hugging Face's character for each byte: the Latin-1 character if it is visible, else one from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(BYTES) if byte not in visible]
    return [chr(byte) if byte in visible else chr(0x100 + hidden.index(byte)) for byte in range(BYTES)]


def huggingface(
    tokens: Sequence[bytes], merges: NDArray[np.uint32], special_ids: Mapping[str, int], regex: str
) -> dict[str, Any]:
    """The content of a `tokenizer.json`. `tokens`: all except the special tokens; `merges`: (n, 2).

    Raises ValueError if two tokens have the same bytes, or a special token has the name of another token.
    """
    characters = byte_characters()
    vocabulary = {"".join(characters[byte] for byte in token): at for token, at in ranks_of(tokens).items()}
    names = list(vocabulary)
    for special in special_ids:
        if special in vocabulary:
            raise ValueError(
                f"the special token {special!r} is also how tokenizer.json writes the token {vocabulary[special]}; "
                "choose another name for it"
            )
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": at, "content": special, **added} for special, at in special_ids.items()],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [[names[left], names[right]] for left, right in merges.tolist()],
        },
    }

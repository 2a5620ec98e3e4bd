"""The cache of keys and values for generation: a further token costs one position instead of all of them."""

from torch import Tensor


class LayerCache:
    """Keys and values of one layer, in tensors with room for `capacity` positions."""

    def __init__(self, capacity: int) -> None:
        self.length = 0
        self._capacity = capacity
        self._held: tuple[Tensor, Tensor] | None = None

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append (B, H, T, D) keys and values; returns all of them, (B, H, length, D)."""
        if self._held is None:
            self._held = self._room(k), self._room(v)
        begin, self.length = self.length, self.length + k.size(2)
        keys, values = self._held
        keys[:, :, begin : self.length] = k
        values[:, :, begin : self.length] = v
        return keys[:, :, : self.length], values[:, :, : self.length]

    def repeated(self, n: int) -> "LayerCache":
        """A copy for a batch `n` times as large; each row is repeated `n` times in a row."""
        copy = LayerCache(self._capacity)
        copy.length = self.length
        if self._held is not None:
            keys, values = (held.repeat_interleave(n, dim=0) for held in self._held)
            copy._held = keys, values
        return copy

    def _room(self, like: Tensor) -> Tensor:
        B, H, _, D = like.shape
        return like.new_empty(B, H, self._capacity, D)


class Cache:
    """The cache of all layers for a batch of rows of equal length.

    Args:
        layers: number of layers.
        capacity: number of positions to make room for, at most the model's `sequence_len`.
    """

    def __init__(self, layers: int, capacity: int) -> None:
        self.layers = [LayerCache(capacity) for _ in range(layers)]
        self._embedding: Tensor | None = None

    @property
    def length(self) -> int:
        """Number of positions read so far, which is the position of the next token."""
        return self.layers[0].length

    def repeated(self, n: int) -> "Cache":
        """A copy for a batch `n` times as large, so that a prompt is read once for `n` samples."""
        copy = Cache(0, 0)
        copy.layers = [layer.repeated(n) for layer in self.layers]
        if self._embedding is not None:
            copy._embedding = self._embedding.repeat_interleave(n, dim=0)
        return copy

    def swap_embedding(self, last: Tensor) -> Tensor | None:
        """Keep the last token's embedding, (B, 1, C), for the next call; returns the one kept before, None at first."""
        before, self._embedding = self._embedding, last
        return before

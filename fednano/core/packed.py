"""A growing sequence of records of numbers, packed in columns."""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class Packed(Sequence[T], Generic[T]):
    """Records that take as many bytes as their numbers do, about a fifth of a list of objects.

    What a run keeps for each round or each window of a client belongs in here, since a run may have millions.

    Args:
        make: makes a record from its numbers.
        codes: a type code of `array` for each number.
        rows: the numbers of the first records.
    """

    def __init__(self, make: Callable[..., T], codes: str, rows: Iterable[Iterable[float]] = ()) -> None:
        self._make = make
        self.columns: tuple[array[Any], ...] = tuple(array(code) for code in codes)
        for row in rows:
            self.add(*row)

    def add(self, *numbers: float) -> None:
        """Append a record. Raises ValueError, and appends nothing, if a number does not fit its column."""
        held = len(self)
        try:
            for column, number in zip(self.columns, numbers, strict=True):
                column.append(number)
        except OverflowError as error:
            for column in self.columns:
                del column[held:]
            raise ValueError(f"numbers must fit their columns, got {numbers} ({error}); correct them") from error

    def __len__(self) -> int:
        return len(self.columns[0])

    def __iter__(self) -> Iterator[T]:
        return map(self._make, *self.columns)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...

    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return list(map(self._make, *(column[index] for column in self.columns)))
        return self._make(*(column[index] for column in self.columns))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Packed):  # a figure that diverged equals itself, which a NaN would not
            return [c.tobytes() for c in self.columns] == [c.tobytes() for c in other.columns]
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

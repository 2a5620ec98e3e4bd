"""Arrow columns of text, in the layouts in which other programs write them."""

from typing import Any

import pyarrow as pa


def holds_text(kind: pa.DataType) -> bool:
    """Whether values are strings, in any of Arrow's layouts; a column of nulls holds no text, but no other thing."""
    if isinstance(kind, pa.BaseExtensionType):
        return holds_text(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return holds_text(kind.value_type)
    text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(is_kind(kind) for is_kind in text)


def as_strings(column: Any) -> Any:
    """An Arrow array or chunked array of a text column, as strings whose bytes lie in one piece."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column
    if isinstance(kind, pa.BaseExtensionType):
        return as_strings(column.cast(kind.storage_type))
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    return column.cast(pa.large_string())

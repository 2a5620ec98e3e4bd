"""SkyPilot's spot traces: how many instances were available at each tick.

Documented at https://github.com/skypilot-org/spot-traces (Wu et al., Can't Be Late, NSDI 2024). Files of the paper's
simulator have the same form, but 1 means preempted there.
"""

import math

from fednano.core.text import brief
from fednano.traces.formats.published import INSTANCES, Published, TraceFormat
from fednano.traces.rows import Sheet

AVAILABLE = "available"


def from_document(document: object, file: str) -> Published | None:
    """A column `available`."""
    read = counts(document, file)
    if read is None:
        return None
    gap_s, available = read
    rows = [(at, [repr((at - 1) * gap_s), str(count)]) for at, count in enumerate(available, start=1)]
    return Published(
        sheet=Sheet(["time (s)", AVAILABLE], rows, noun="entry"),
        time_column="time (s)",
        columns=[AVAILABLE],
        units={AVAILABLE: INSTANCES},
        note="SkyPilot's instances available",
    )


def counts(document: object, file: str) -> tuple[float, list[int]] | None:
    """(seconds between two ticks, instances available at each); None if the document is none of SkyPilot's.

    Raises ValueError, which names file, entry and remedy, if the seconds or a count are none.
    """
    if not isinstance(document, dict) or not isinstance(metadata := document.get("metadata"), dict):
        return None
    data = document.get("data")
    if "gap_seconds" not in metadata or not isinstance(data, list):
        return None
    gap_s = metadata["gap_seconds"]
    if isinstance(gap_s, bool) or not isinstance(gap_s, int | float) or not 0 < gap_s < math.inf:
        raise ValueError(f"{file}: metadata.gap_seconds must be > 0 seconds, got {brief(gap_s)}; correct the file")
    for at, count in enumerate(data, start=1):
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ValueError(
                f"{file}, entry {at}: data must count available instances, 0 or more, got {brief(count)}; correct the "
                "file"
            )
    return float(gap_s), data


FORMAT = TraceFormat(document=from_document)

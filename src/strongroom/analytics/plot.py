"""A picture of a result that is a series: the first column along, every other number up."""

from pathlib import Path
from typing import IO, Any, Final, cast

import pyarrow as pa

from strongroom.analytics.sink import FileSink
from strongroom.errors import ConfigurationError
from strongroom.room.new_file import NewFile

MAX_POINTS: Final = 100_000
MAX_BARS: Final = 60
MAX_UPRIGHT: Final = 8
MAX_PANELS: Final = 6
_DPI: Final = 144


def plot_series(result: Any, target: Path, *, title: str = "", overwrite: bool = False) -> None:
    """Draw a result as lines, or as bars where the first column is text.

    Args:
        result: Arrow table: first column the axis, at least one column of numbers.
        target: PNG file.
        title: Above the picture.
        overwrite: Whether the file may be replaced.

    Raises:
        ConfigurationError: The result is no series.
        WouldOverwrite: The file exists.
        UnavailableError: The disk is full or fails.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    numbers = [name for name in result.column_names[1:] if _is_number(result.schema.field(name).type)]
    if not numbers or not 0 < result.num_rows <= MAX_POINTS:
        raise ConfigurationError(
            "this result is no series to plot",
            code="plot.no_series",
            hint=f"select an axis first, then numbers; 1 to {MAX_POINTS} rows",
        )
    numbers = numbers[:MAX_PANELS]
    figure = Figure(figsize=(9, 1.5 + 2.5 * len(numbers)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(numbers), 1, sharex=True, squeeze=False)[:, 0]
    axis = result.column_names[0]
    places = _places(result, axis)
    for panel, name in zip(panels, numbers, strict=True):
        _draw(panel, places, _floats(result, name))
        panel.set_ylabel(name)
    panels[-1].set_xlabel(axis)
    figure.suptitle(title)
    with NewFile(target, overwrite=overwrite) as file:
        figure.savefig(cast("IO[bytes]", FileSink(file)), format="png", dpi=_DPI)


def _draw(panel: Any, places: list[Any], heights: list[float]) -> None:
    """One column of numbers; each has a panel of its own because a count and a price share no scale."""
    if isinstance(places[0], str):
        panel.bar(places, heights)
        panel.tick_params("x", rotation=90 if len(places) > MAX_UPRIGHT else 0)
    else:
        panel.plot(places, heights, marker="o" if len(places) <= MAX_BARS else None)
        panel.set_ylim(bottom=0 if min(heights) >= 0 else None)
    panel.grid(visible=True, alpha=0.3)


def _places(result: Any, axis: str) -> list[Any]:
    kind = result.schema.field(axis).type
    values = result.column(axis).to_pylist()
    if _is_number(kind) or pa.types.is_temporal(kind):
        return [float("nan") if value is None else value for value in values]
    if len(values) > MAX_BARS:
        raise ConfigurationError(f"more than {MAX_BARS} bars to plot", code="plot.no_series", hint="add LIMIT")
    return ["(none)" if value is None else str(value) for value in values]


def _floats(result: Any, name: str) -> list[float]:
    return [float("nan") if value is None else float(value) for value in result.column(name).to_pylist()]


def _is_number(type_: Any) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_))

"""A picture of a result that is a series: the first column along, every other number up."""

from pathlib import Path
from typing import IO, Any, Final, cast

import pyarrow as pa

from strongroom.analytics.sink import FileSink
from strongroom.errors import ConfigurationError
from strongroom.room.new_file import NewFile

MAX_POINTS: Final = 100_000
MAX_BARS: Final = 60
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
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    _draw(figure.add_subplot(), result, numbers)
    figure.suptitle(title)
    with NewFile(target, overwrite=overwrite) as file:
        figure.savefig(cast(IO[bytes], FileSink(file)), format="png", dpi=_DPI)


def _draw(axes: Any, result: Any, numbers: list[str]) -> None:
    axis = result.column_names[0]
    places: Any = result.column(axis).to_pylist()
    is_text = not (_is_number(result.schema.field(axis).type) or pa.types.is_temporal(result.schema.field(axis).type))
    if is_text and len(places) <= MAX_BARS:
        _bars(axes, result, [str(place) for place in places], numbers)
    else:
        for name in numbers:
            axes.plot(places, _floats(result, name), marker="o" if len(places) <= MAX_BARS else None, label=name)
    axes.set_xlabel(axis)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()


def _bars(axes: Any, result: Any, labels: list[str], numbers: list[str]) -> None:
    width = 0.8 / len(numbers)
    for index, name in enumerate(numbers):
        axes.bar([i + index * width for i in range(len(labels))], _floats(result, name), width, label=name)
    axes.set_xticks([i + 0.4 - width / 2 for i in range(len(labels))], labels, rotation=90 if len(labels) > 8 else 0)


def _floats(result: Any, name: str) -> list[float]:
    return [float("nan") if value is None else float(value) for value in result.column(name).to_pylist()]


def _is_number(type_: Any) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_))

"""The chart of the analytics benchmark: how the cost of encryption grows with rows and executors."""

from pathlib import Path
from typing import Any, Final

CHART: Final = Path(__file__).parents[1] / "docs" / "images" / "analytics-benchmark.png"
QUERIES: Final = ("aggregate", "hourly", "wide")
MILLIONS: Final = (1, 10, 30)


def draw(results: dict[str, Any]) -> None:
    """Write the chart.

    Args:
        results: Content of ``results/analytics.json``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    embedded, spark, seconds = figure.subplots(1, 3)
    _embedded(embedded, results["embedded"])
    _spark(spark, results["spark"])
    _seconds(seconds, results["spark"])
    for panel, limit in ((embedded, 1.15), (spark, 1.05)):
        panel.axhline(1, color="black", linewidth=0.8)
        panel.axhline(limit, color="grey", linewidth=0.8, linestyle=":")
    spark.set_ylim(*_around(spark, 0.25))
    for panel in (embedded, spark, seconds):
        panel.set_xscale("log")
        panel.set_xlabel("rows, millions")
        panel.set_xlim(0.8, 40)
        panel.set_xticks(MILLIONS, list(map(str, MILLIONS)))
        panel.set_xticks([], minor=True)
        panel.legend(fontsize="small")
    embedded.set_ylabel("time, encrypted / plain")
    seconds.set_ylabel("seconds")
    FigureCanvasAgg(figure)
    CHART.parent.mkdir(exist_ok=True)
    figure.savefig(CHART, dpi=110)
    print(CHART)


def _around(panel: Any, least: float) -> tuple[float, float]:
    """Limits that show 1 in the middle, so that noise looks like noise."""
    reach = max(least, *(abs(limit - 1) for limit in panel.get_ylim()))
    return 1 - reach, 1 + reach


def _seconds(panel: Any, found: dict[str, Any]) -> None:
    for color, executors in enumerate(("1", "2")):
        for name in ("aggregate", "write"):
            sizes = [rows for rows in _millions(found) if name in found[rows].get(executors, {})]
            places = [int(rows) / 1e6 for rows in sizes]
            for side, line in (("plain", "--"), ("uniform", "-")):
                times = [found[rows][executors][name][side]["wall_s"] for rows in sizes]
                label = f"{name}, {executors} executor{'s' if executors == '2' else ''}" if side == "uniform" else None
                panel.plot(places, times, line, marker="o" if name == "write" else "s", color=f"C{color}", label=label)
    panel.set_yscale("log")
    panel.set_title("Spark: ours (full) and stock (dashed)", fontsize="medium")


def _millions(found: dict[str, Any]) -> list[str]:
    return sorted(found, key=int)


def _embedded(panel: Any, found: dict[str, Any]) -> None:
    sizes = _millions(found)
    for name in QUERIES:
        ratios = [found[rows][name]["uniform"]["wall_ratio"] for rows in sizes]
        panel.plot([int(rows) / 1e6 for rows in sizes], ratios, marker="o", label=name)
    panel.set_title("embedded engine / DuckDB", fontsize="medium")


def _spark(panel: Any, found: dict[str, Any]) -> None:
    for executors, line in (("1", "--"), ("2", "-")):
        for number, name in enumerate((*QUERIES, "write")):
            sizes = [rows for rows in _millions(found) if name in found[rows].get(executors, {})]
            if not sizes:
                continue
            ratios = [found[rows][executors][name]["uniform"]["wall_ratio"] for rows in sizes]
            places = [int(rows) / 1e6 for rows in sizes]
            label = f"{name}, {executors} executor{'s' if executors == '2' else ''}"
            panel.plot(places, ratios, line, marker="o", color=f"C{number}", label=label)
    panel.set_title("Spark, ours / stock", fontsize="medium")

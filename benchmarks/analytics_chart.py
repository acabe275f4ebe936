"""The chart of the analytics benchmark: how the cost of encryption grows with rows and executors."""

from pathlib import Path
from typing import Any, Final

CHART: Final = Path(__file__).parents[1] / "docs" / "images" / "analytics-benchmark.png"
QUERIES: Final = ("aggregate", "hourly", "wide")
MILLIONS: Final = (1, 10, 30)
LIMITS: Final = {"embedded": 1.15, "spark": 1.05}


def draw(results: dict[str, Any]) -> None:
    """Write the chart.

    Args:
        results: Content of ``results/analytics.json``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    embedded, spark = figure.subplots(1, 2, sharey=True)
    _embedded(embedded, results["embedded"])
    _spark(spark, results["spark"])
    for panel, name in ((embedded, "embedded"), (spark, "spark")):
        panel.axhline(1, color="black", linewidth=0.8)
        panel.axhline(LIMITS[name], color="grey", linewidth=0.8, linestyle=":")
        panel.set_xscale("log")
        panel.set_xlabel("rows, millions")
        panel.set_xlim(0.8, 40)
        panel.set_xticks(MILLIONS, list(map(str, MILLIONS)))
        panel.set_xticks([], minor=True)
        panel.legend(fontsize="small")
    embedded.set_ylabel("time, encrypted / plain")
    FigureCanvasAgg(figure)
    CHART.parent.mkdir(exist_ok=True)
    figure.savefig(CHART, dpi=110)
    print(CHART)


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

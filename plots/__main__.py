"""Draw the figures, as PNG and SVG.

python -m plots                                                           every figure of all suites in results
python -m plots --suite quick --results runs/results --out runs/figures   the figures of one suite
python -m plots --figures improvement --methods awr dilo                  one figure, of chosen methods and BC
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from sibench.core import cli

sys.path.insert(0, str(Path(__file__).parent))


@dataclass(frozen=True)
class Config:
    """Draw figures, as PNG and SVG."""

    suite: tuple[str, ...] = ()
    """Suites to draw, such as small, or sibench-x0.1; default: all in --results, and the figures that show no suite."""
    results: Path = Path("results")
    """Folder of results, <results>/<suite>/<task>/<cell>.json."""
    out: Path = Path("plots")
    """Folder to draw into, <out>/<figure>-<suite>.png and .svg."""
    figures: tuple[str, ...] = ()
    """Figures to draw, such as improvement; default: all."""
    methods: tuple[str, ...] = ()
    """Draw only these methods, and BC; default: all in the results."""


def main(config: Config) -> None:
    import figures  # slow, and --help does not need it

    suites = config.suite or figures.suites_in(config.results)
    names = config.figures or (*figures.OF_SUITES, *(() if config.suite else figures.OTHERS))
    figures.draw(names, suites, config.methods, config.results, config.out)


if __name__ == "__main__":
    cli.run(main, Config, "python -m plots")

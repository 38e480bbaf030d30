"""The look of the figures: colours, marker and label of each method, fonts, sizes."""

from collections.abc import Iterable
from typing import Any, NamedTuple

WIDTHS = (5.2, 7.2)
"""Width of a figure with a single column of panels, and of others, in inches."""
EXPERT, DATA = "#c5420f", "#2365c8"
"""Colours of the expert's episodes and of background data."""

SETTINGS = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "hatch.linewidth": 0.35,
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "svg.hashsalt": "sibench",
    "svg.fonttype": "none",
}


class Look(NamedTuple):
    color: str
    marker: Any
    linestyle: Any
    label: str


LOOKS = {  # colours that colour-blind readers can tell apart
    "bc": Look("#a7a7a7", "o", "-", "BC"),
    "bco": Look("#00744d", "v", "-", "BCO"),
    "vfo-bin": Look("#2365c8", "s", "-", "VfO-bin"),
    "vfo-disc": Look("#46beff", "D", "-", "VfO-disc"),
    "awr": Look("#000000", "^", (0, (3, 1.5)), "AWR (oracle)"),
    "vfo-disc-ending": Look("#3a34e0", "8", (0, (5, 1, 1, 1)), "VfO-disc, ending"),
    "awr-absorbing": Look("#737373", "<", (0, (5, 1, 1, 1)), "AWR, absorbing"),
    "smodice-kl": Look("#c5420f", "P", "-", "SMODICE"),
    "smodice-chi2": Look("#ea8500", "X", "-", "SMODICE χ²"),
    "dilo": Look("#8e5b92", "d", "-", "DILO"),
    "sqil": Look("#611679", ">", "-", "SQIL (expert actions)"),
    "nce-inverse": Look("#7e2011", "p", "-", "NCE inverse"),
    "nce-value": Look("#90d169", "h", "-", "NCE value"),
    "nce-privileged": Look("#06464e", "*", (0, (1, 1)), "NCE (expert actions)"),
}
OTHER_COLOURS = ("#549c54", "#000090", "#c0c09c", "#546cfc", "#48c0d8", "#309cfc")
OTHER_MARKERS = ("H", (4, 1, 45), (5, 0, 180), (6, 1, 0), (4, 1, 0))
"""Colours and markers of all other methods, in the order of their names."""


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """Map methods to their looks, in the order in which figures show them. Methods without an own look come last."""
    names = set(methods)
    chosen = {name: look for name, look in LOOKS.items() if name in names}
    for index, name in enumerate(sorted(names - LOOKS.keys())):
        colour, marker = OTHER_COLOURS[index % len(OTHER_COLOURS)], OTHER_MARKERS[index % len(OTHER_MARKERS)]
        chosen[name] = Look(colour, marker, "-.", name)
    return chosen

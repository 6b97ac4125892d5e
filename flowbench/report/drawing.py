"""Vega, which draws all pictures: on paper by vl-convert, in a page by its own program. No torch."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from flowbench.console import printable
from flowbench.errors import UsageError
from flowbench.report.figures.figure import Picture, Row
from flowbench.report.figures.style import WIDTHS, config

if TYPE_CHECKING:
    from types import ModuleType

FORMS = (".pdf", ".svg", ".png")

PIXELS_PER_POINT = 300 / 72
"""Of a PNG: 300 dots an inch."""

GAP, HEADROOM = 30, 42
"""Points between panels, and beside them for axes and titles."""


def needed() -> ModuleType:
    """vl-convert.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import vl_convert
    except ImportError as error:
        raise UsageError("pictures need the extra `report`", "pip install 'flowbench[report]'") from error
    return vl_convert


@cache
def vega_bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script for a browser, which sets ``window.vegaEmbed``."""
    script: str = needed().javascript_bundle()
    return script


def drawn(picture: Picture, form: str, columns: str) -> bytes:
    """A picture for a paper, as wide as one or two of its ``columns``: PDF and SVG with their fonts, PNG at 300 dpi."""
    vl_convert, width = needed(), WIDTHS[columns]
    whole = _printed(picture.drawn(config("paper", max(1, int(width // 130))), **sized(picture.spec, width)))
    if form == ".pdf":
        return bytes(vl_convert.vegalite_to_pdf(whole))
    if form == ".svg":
        return str(vl_convert.vegalite_to_svg(whole)).encode()
    return bytes(vl_convert.vegalite_to_png(whole, scale=PIXELS_PER_POINT))


def _printed(value: Any) -> Any:
    """With every text in a form that XML can hold: what it cannot ends vl-convert, and the process with it."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {key: _printed(each) for key, each in value.items()}
    return [_printed(each) for each in value] if isinstance(value, list | tuple) else value


def sized(spec: Row, width: float) -> Row:
    """The specification, so wide: panels share the width, a single view takes it whole."""
    if "facet" in spec:
        least = GAP + (90 if spec["columns"] < 4 else 55)
        across = max(1, min(int(spec["columns"]), int((width - HEADROOM) // least)))
        each = (width - HEADROOM) / across - GAP
        return spec | {
            "columns": across,
            "spec": spec["spec"] | {"width": each, "height": each * (0.5 if across == 1 else 1)},
        }
    if "hconcat" in spec:
        each = (width - HEADROOM) / len(spec["hconcat"]) - spec["spacing"]
        size = {"width": each, "height": each}
        parts = [part | {"vconcat": [view | size for view in part["vconcat"]]} for part in spec["hconcat"]]
        return spec | {"hconcat": parts}
    if "height" in spec:  # a matrix, whose rows are as high as their words
        sides = spec["encoding"]
        lines = len(sides["y"]["sort"])
        sides = {name: side | {"axis": side["axis"] | {"labelLimit": 2 * HEADROOM}} for name, side in sides.items()}
        step = (width - 3 * HEADROOM) / lines
        return spec | {"encoding": sides, "width": {"step": step}, "height": {"step": 20}}
    fit = {"type": "fit-x", "contains": "padding"}
    return {"width": width, "height": 0.55 * width, "autosize": fit} | spec

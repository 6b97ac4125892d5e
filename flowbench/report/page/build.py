"""The page as one HTML file: its document, its looks and its program, and Vega to draw with. No torch."""

from __future__ import annotations

import base64
import hashlib
import html
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any

from pydantic_core import to_json

from flowbench.report.drawing import vega_bundle

PROGRAM = ("dom.js", "numbers.js", "pictures.js", "table.js", "views.js", "main.js")
"""In the order in which they need each other."""


def page(document: dict[str, Any], text: str) -> str:
    """The page of a document; ``text`` is what there is to read where no program may run.

    Nothing in it is fetched, and its policy forbids that anything be: scripts are those whose digests it names.
    """
    scripts = vega_bundle(), _program()
    return Template(_part("page.html")).substitute(
        title=html.escape(f"flowbench · {document['folder']}"),
        policy=_policy(scripts),
        style=_part("style.css"),
        document=_in_script(to_json(document, inf_nan_mode="null").decode()),
        text=html.escape(text),
        vega=scripts[0],
        program=scripts[1],
    )


def _part(name: str) -> str:
    return files("flowbench.report.page").joinpath(name).read_text(encoding="utf-8")


@cache
def _program() -> str:
    parts = "\n".join(_part(name) for name in PROGRAM)
    return f'"use strict";\n(() => {{\n{parts}\n}})();\n'


def _policy(scripts: tuple[str, str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    own = " ".join(f"'sha256-{digest}'" for digest in digests)
    rest = "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {own}; {rest}"


def _in_script(json: str) -> str:
    """As it may stand between two tags: what would end a script, or begin a comment, is spelt out."""
    return json.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")

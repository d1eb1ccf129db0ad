"""What docstrings say of classes, their fields and functions: written once, where it belongs, and shown elsewhere.

In the OpenAPI document and in the configuration file. Python keeps no docstring of a field, so those are read from the
source; where there is none, there are none.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from itertools import pairwise


def plain(docstring: str | None) -> str:
    """A docstring as Markdown: paragraphs on one line each, code between single backticks."""
    paragraphs = inspect.cleandoc(docstring or "").replace("``", "`").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


@cache
def field_texts(kind: type) -> dict[str, str]:
    """The docstring beneath each field that has one, by the field's name."""
    try:
        parsed = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    except (OSError, SyntaxError):
        return {}
    assert isinstance(parsed, ast.ClassDef), "the source of a class"
    texts = {}
    for statement, following in pairwise(parsed.body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = _string(following)
            if text is not None:
                texts[statement.target.id] = plain(text)
    return texts


def _string(statement: ast.stmt) -> str | None:
    match statement:
        case ast.Expr(ast.Constant(str(text))):
            return text
        case _:
            return None

"""The page for people: whole, true to the document, and harmless whatever stands in it."""

from __future__ import annotations

import base64
import hashlib
from html.parser import HTMLParser
from typing import Any

from layer1.api.app import ROUTES
from layer1.api.openapi import document
from layer1.api.views import AccountView
from layer1.docstrings import field_texts
from layer1.httpd.page import page
from layer1.httpd.views import View
from tests.layer1.api.conftest import Served

LOADING = {"script", "link", "img", "iframe", "object", "embed", "form", "base", "video", "audio", "source"}
"""Elements that run or fetch something, or could."""
VOID = {"meta"}


class Reading(HTMLParser):
    """Takes a page apart; complains when elements do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.style = ""
        self.words = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.attributes |= set(given)
        self.ids += [value for value in [given.get("id")] if value]
        self.links += [value for value in [given.get("href")] if value]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.style += data
        else:
            self.words += data


async def test_the_page_is_served_under_a_policy_that_allows_its_own_style_alone(served: Served) -> None:
    async with served.session.get(f"{served.url}/docs") as response:
        assert (response.status, response.content_type, response.charset) == (200, "text/html", "utf-8")
        policy = response.headers["Content-Security-Policy"]
        read = Reading(await response.text())
    hashed = base64.b64encode(hashlib.sha256(read.style.encode()).digest()).decode()
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules.pop("style-src") == f"'sha256-{hashed}'"
    assert set(rules.values()) == {"'none'"}
    assert "default-src" in rules


def test_nothing_is_loaded_and_nothing_runs() -> None:
    read = Reading(page(document(ROUTES)))
    assert not LOADING & set(read.tags)
    assert not {name for name in read.attributes if name.startswith("on") or name in {"style", "src"}}
    assert not [link for link in read.links if "//" in link]
    assert "url(" not in read.style
    assert "@import" not in read.style


def test_everything_of_the_document_stands_on_the_page() -> None:
    described = document(ROUTES)
    read = Reading(page(described))
    operations = [operation for methods in described["paths"].values() for operation in methods.values()]
    assert sorted(read.ids) == sorted([o["operationId"] for o in operations] + list(described["components"]["schemas"]))
    for operation in operations:
        for parameter in operation["parameters"]:
            assert parameter["name"] in read.words
        assert operation["summary"] in read.words
    for schema in described["components"]["schemas"].values():
        assert all(name in read.words for name in schema["properties"])


async def test_every_link_leads_somewhere(served: Served) -> None:
    async with served.session.get(f"{served.url}/docs") as response:
        read = Reading(await response.text())
    assert {link[1:] for link in read.links if link.startswith("#")} <= set(read.ids)
    for link in sorted({link for link in read.links if not link.startswith("#")}):
        async with served.session.get(f"{served.url}/{link}") as response:
            assert response.status == 200, link


def test_what_stands_in_a_document_is_text_and_nothing_else() -> None:
    """Each string of the document in turn becomes markup that would break out of an element or an attribute."""
    plain = document(ROUTES)
    whole = Reading(page(plain))
    evil = "\"'><script>alert(1)</script><b onclick=x>`<i>`"

    def poisoned(node: Any, key: str = "") -> Any:
        if isinstance(node, dict):
            named = evil if key in {"paths", "properties"} else ""
            return {name + named: poisoned(value, name) for name, value in node.items()}
        if isinstance(node, list):
            return [poisoned(item, key) for item in node]
        return node + evil if isinstance(node, str) and key not in {"$ref", "type"} else node

    read = Reading(page(poisoned(plain)))
    assert set(read.tags) == set(whole.tags)
    assert read.attributes == whole.attributes
    assert "<script>alert(1)</script>" in read.words


def test_fields_are_described_in_the_document_by_their_docstrings() -> None:
    described = document(ROUTES)["components"]["schemas"]
    assert described["AccountView"]["properties"]["balance"]["description"] == "Minor units; 0 if nobody ever paid it."
    assert described["GroupEvent"]["properties"]["deadline"]["description"].startswith("With `wedged` and `reported`: ")
    assert described["StatusView"]["description"] == "A replica and its head."


def test_a_view_without_source_has_no_descriptions() -> None:
    made = type("Made", (View,), {"__annotations__": {"number": int}}, frozen=True)
    assert field_texts(made) == {}
    assert set(field_texts(AccountView)) == {"balance", "proof"}

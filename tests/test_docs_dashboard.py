"""The page on the dashboard and the dashboard agree on what there is to see."""

from __future__ import annotations

import re

from flask import Flask

from tests.markdown import page
from tests.test_docs import app

__all__ = ["app"]  # the fixture


def test_every_page_is_explained_and_no_other(app: Flask) -> None:
    """A newcomer finds what each page is for; forms below a page (edit, replay, one operation) belong to it."""
    pages = {
        re.sub(r"<[^>]+>", "{id}", rule.rule)
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("dashboard.") and "GET" in (rule.methods or ()) and "path:" not in rule.rule
    }
    explained = set(page("docs/dashboard.md").terms)
    assert explained <= pages
    below = {path for path in pages - explained if any(path.startswith(f"{above}/") for above in explained - {"/"})}
    assert pages - explained == below

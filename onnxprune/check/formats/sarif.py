"""For code-scanning pages: SARIF 2.1.0."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from ..metrics import METRICS, SETS
from ..verdict import Finding, Outcome, Report
from .json import dumped

_LEVELS = {"fail": "error", "warn": "warning"}


def sarif(report: Report) -> str:
    """The broken limits as SARIF results."""
    titles = {**{key: m.title for key, m in METRICS.items()}, **SETS}
    rules = [
        {
            "id": key,
            "shortDescription": {"text": f"Limit of {title}"},
            "defaultConfiguration": {"level": "error"},
        }
        for key, title in titles.items()
    ]
    order = list(titles)
    driver = {"name": "onnxprune", "rules": rules}
    results = [_result(o, f, order) for o in report.outcomes for f in o.findings if f.status in _LEVELS]
    content = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results, "columnKind": "utf16CodeUnits"}],
    }
    return dumped(content)


def _result(outcome: Outcome, finding: Finding, order: list[str]) -> dict[str, Any]:
    # Code scanning shows only what has a line, which a model doesn't have.
    place = {
        "artifactLocation": {"uri": quote(outcome.model.path.as_posix())},
        "region": {"startLine": 1},
    }
    return {
        "ruleId": finding.metric,
        "ruleIndex": order.index(finding.metric),
        "level": _LEVELS[finding.status],
        "message": {"text": f"{outcome.model.key}: {finding.message}"},
        "locations": [{"physicalLocation": place}],
        # By these, the same finding is recognised in the next run although its numbers have changed.
        "partialFingerprints": {"model/v1": outcome.model.key, "metric/v1": finding.metric},
    }

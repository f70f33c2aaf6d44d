"""For code-scanning pages: SARIF 2.1.0."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from ...errors import harmless
from ..metrics import METRICS, SETS
from ..verdict import Finding, Outcome, Report
from .json import dumped

_LEVELS = {"fail": "error", "warn": "warning"}


def sarif(report: Report) -> str:
    """The broken limits as SARIF results."""
    order = [*METRICS, *SETS]
    loud = [(o, f) for o in report.outcomes for f in o.findings if f.status in _LEVELS]
    return _run([_result(report, o, f, order) for o, f in loud], {"executionSuccessful": True})


def sarif_error(message: str) -> str:
    """What SARIF says of a check that could not be made: a run without success."""
    notifications = [{"level": "error", "message": {"text": harmless(message)}}]
    return _run([], {"executionSuccessful": False, "toolExecutionNotifications": notifications})


def _run(results: list[dict[str, Any]], invocation: dict[str, Any]) -> str:
    titles = {**{key: m.title for key, m in METRICS.items()}, **SETS}
    rules = [
        {
            "id": key,
            "shortDescription": {"text": f"Limit of {title}"},
            "defaultConfiguration": {"level": "error"},
        }
        for key, title in titles.items()
    ]
    run = {
        "tool": {"driver": {"name": "onnxprune", "rules": rules}},
        "invocations": [invocation],
        "results": results,
        "columnKind": "utf16CodeUnits",
    }
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    return dumped({"$schema": schema, "version": "2.1.0", "runs": [run]})


def _result(report: Report, outcome: Outcome, finding: Finding, order: list[str]) -> dict[str, Any]:
    # Code scanning shows only what has a line, which a model doesn't have.
    place = {
        "artifactLocation": {"uri": quote(report.place(outcome.model))},
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

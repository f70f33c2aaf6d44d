"""For the test pages of CI servers: a suite per model, a case per limit."""

from __future__ import annotations

from xml.etree import ElementTree

from ...errors import harmless
from ..verdict import Finding, Outcome, Report


def junit(report: Report) -> str:
    """The report as JUnit XML; a broken `warn` limit passes and says so in its output."""
    root = ElementTree.Element("testsuites", name="onnxprune check")
    totals = {"tests": 0, "failures": 0, "errors": 0}  # Jenkins knows no others here
    for outcome in report.outcomes:
        suite = _suite(outcome)
        for key in totals:
            totals[key] += int(suite.attrib[key])
        root.append(suite)
    root.attrib.update({key: str(value) for key, value in totals.items()})
    return _written(root)


def junit_error(message: str) -> str:
    """What JUnit XML says of a check that could not be made: a case in error."""
    counts = {"name": "onnxprune check", "tests": "1", "failures": "0", "errors": "1"}
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {**counts, "skipped": "0"})
    case = ElementTree.SubElement(suite, "testcase", name="check", classname="onnxprune")
    ElementTree.SubElement(case, "error", message=harmless(message), type="error")
    return _written(root)


def _written(root: ElementTree.Element) -> str:
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _suite(outcome: Outcome) -> ElementTree.Element:
    # A suite without a case would vanish from the page: a model without limits keeps its numbers.
    cases = [f for f in outcome.findings if f.status != "info"] or list(outcome.findings)
    suite = ElementTree.Element(
        "testsuite",
        name=harmless(outcome.model.key),
        tests=str(len(cases)),
        failures=str(sum(f.status == "fail" for f in cases)),
        errors="0",
        skipped=str(sum(f.status == "skip" for f in cases)),
    )
    suite.extend(_case(outcome, finding) for finding in cases)
    return suite


def _case(outcome: Outcome, finding: Finding) -> ElementTree.Element:
    case = ElementTree.Element("testcase", name=finding.metric, classname=harmless(outcome.model.key))
    if finding.status == "fail":
        ElementTree.SubElement(case, "failure", message=harmless(finding.message), type="limit")
    elif finding.status == "skip":
        ElementTree.SubElement(case, "skipped", message=harmless(finding.message))
    output = ElementTree.SubElement(case, "system-out")
    warning = f"warning: {finding.message}" if finding.status == "warn" else ""
    parts = [finding.shown, f"change {finding.change}" if finding.change else "", warning]
    output.text = harmless("; ".join(filter(None, parts)))
    return case

"""ONNX Runtime's error messages for users: the node, and the reason in one line."""

from __future__ import annotations

import re
from typing import NamedTuple

_PARENTHESES = r"\((?:[^()]|\([^()]*\))*\)"

_NOISE = re.compile(
    "|".join(
        [
            r"^\[ONNXRuntimeError\] : \d+ : \w+ : ",
            r"Load model from .*? failed:\s*",
            r"(?:This is an invalid model|Invalid model|Fatal error|Exception during \w+)[.:] (?:Error: )?",
            r"\[ShapeInferenceError\] ",
            # Places in the runtime's source: "/path/file.h:46 void ns::f(const T&, int) const ", or for short
            # "file.h:59 Function ".
            rf"(?:[A-Za-z]:)?[\\/][^\s:]+:\d+ [^(]*(?:{_PARENTHESES})+(?: const)?(?:::<lambda[^>]*>)?"
            r"(?: \[with [^\]]*\])? ",
            r"\b\w+\.(?:h|hpp|cc|cpp|cu|cuh):\d+ \w+ ",
            r" Please fix either the inputs/outputs or the model\.",
        ]
    )
)

# A failed condition in C++ is of no use where a sentence follows it.
_CONDITION = re.compile(r"^[^.]* was false\. (?=\S)")

_AT_NODE = [
    # Greedy at the start: of nodes inside nodes (If, Loop), the innermost one.
    re.compile(
        r".*Non-zero status code returned while running (?P<op>\S+) node\. Name:'(?P<node>.*?)'"
        r" Status Message: (?P<reason>.*)"
    ),
    re.compile(r'In Node, \("(?P<node>.*?)", (?P<op>[^,]+), .*?, Error (?P<reason>.*)'),
    re.compile(r"Node \((?P<node>.*?)\) Op \((?P<op>.*?)\) (?P<reason>.*)"),
    re.compile(
        r"(?P<reason>Could not find an implementation) for (?P<op>\w+)\S* node with name '(?P<node>.*)'"
    ),
]

_NEW_OPSET = re.compile(r".*Opset (\d+) is under development.*support for domain (\S+) is till opset (\d+)")


class Digest(NamedTuple):
    """The telling part of an error message.

    Attributes:
        node: the node that failed, such as `Conv 'stem'`, or None.
        reason: one line, without a trailing full stop.
    """

    node: str | None
    reason: str


def digest(message: str) -> Digest:
    """Shorten an error message of ONNX Runtime to what helps a user.

    Args:
        message: the text of the exception; may have several lines.
    """
    text = " ".join(message.partition("Stacktrace:")[0].split())
    text = " ".join(_NOISE.sub(" ", text + " ").split())
    node = None
    if match := _NEW_OPSET.match(text):
        opset, domain, newest = match.groups()
        text = f"opset {opset} of domain {domain} is newer than {newest}, the newest this ONNX Runtime knows"
    for pattern in _AT_NODE:
        if match := pattern.match(text):
            node = f"{match['op']} '{match['node']}'" if match["node"] else f"unnamed {match['op']}"
            text = match["reason"]
            break
    text = _CONDITION.sub("", text)
    return Digest(node, text.rstrip(". ") or "unknown failure in ONNX Runtime")

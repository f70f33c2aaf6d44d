"""Post a report on the pull request of this workflow, or update the comment that is there already.

Uses nothing but the standard library. A comment is a courtesy: where it can't be posted (no pull request, no
token, a fork's token that may only read), the script says so and succeeds, for the gate is the check itself.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MARKER = "<!-- onnxprune check -->"
PAGE = 100  # the most that GitHub gives at once
TIMEOUT = 30  # seconds


class Api:
    """GitHub's REST interface for one repository.

    Args:
        url: where it is; GitHub Enterprise has its own.
        repository: owner/name.
        token: to say who asks.
    """

    def __init__(self, url: str, repository: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._issues = f"/repos/{repository}/issues"
        self._headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {token}",
            "User-Agent": "onnxprune-check",
            "X-GitHub-Api-Version": "2022-11-28",
        }

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Send a request and return what comes back."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}{path}", data, self._headers, method=method)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            return json.load(response)

    def comments(self, number: int) -> Iterator[dict[str, Any]]:
        """All comments of a pull request, the oldest first."""
        page = 1
        while True:
            found = self.call("GET", f"{self._issues}/{number}/comments?per_page={PAGE}&page={page}")
            if not isinstance(found, list):
                raise ValueError("it answered something else than comments")
            yield from found
            if len(found) < PAGE:
                return
            page += 1

    def update(self, comment: int, body: str) -> str:
        """Write a comment anew; returns its address."""
        return str(self.call("PATCH", f"{self._issues}/comments/{comment}", {"body": body})["html_url"])

    def add(self, number: int, body: str) -> str:
        """Write a new comment; returns its address."""
        return str(self.call("POST", f"{self._issues}/{number}/comments", {"body": body})["html_url"])

    def user(self) -> str | None:
        """Whose token it is; a job's own belongs to nobody."""
        try:
            return str(self.call("GET", "/user")["login"])
        except urllib.error.HTTPError:
            return None


def post(api: Api, number: int, marker: str, body: str) -> str:
    """Update our comment, or post one; returns its address."""
    me = api.user()
    for comment in api.comments(number):
        author = comment.get("user") or {}  # of an account that was deleted, nothing is left
        # A person who quotes the report isn't us.
        ours = author.get("login") == me if me else author.get("type") == "Bot"
        if ours and (comment.get("body") or "").startswith(marker):
            return api.update(comment["id"], body)
    return api.add(number, body)


def main(report: Path, environment: Mapping[str, str]) -> str:
    """Post the report; returns what happened, for the log."""
    event = environment.get("GITHUB_EVENT_PATH")
    content = json.loads(Path(event).read_text(encoding="utf-8")) if event else {}
    number = (content.get("pull_request") or {}).get("number")
    if number is None:
        return "no comment: this isn't a pull request"
    token = environment.get("GITHUB_TOKEN")
    if not token:
        return "::notice title=onnxprune check::no comment: there is no token; see the job summary"
    marker = MARKER
    if name := environment.get("COMMENT_ID"):
        marker = MARKER.replace("check", f"check {name}")
    body = report.read_text(encoding="utf-8").replace(MARKER, marker, 1)
    url = environment.get("GITHUB_API_URL", "https://api.github.com")
    try:
        return f"comment: {post(Api(url, environment['GITHUB_REPOSITORY'], token), number, marker, body)}"
    except urllib.error.HTTPError as error:
        reason = {
            401: "the token isn't valid",
            403: "the token may not write to pull requests (a fork's never may): see the job summary",
            404: "the token can't see this pull request",
        }.get(error.code, f"GitHub answered {error.code}")
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"GitHub can't be asked ({type(error).__name__}: {error})"
    escaped = " ".join(reason.split()).replace("%", "%25")
    return f"::warning title=onnxprune check::no comment: {escaped}"


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), os.environ))

#!/usr/bin/env bash
# Install onnxprune, in the version of this action, into a virtual environment of its own: the workflow's
# Python keeps the packages that it has.
set -euo pipefail

venv="$RUNNER_TEMP/onnxprune-venv"
python=$(command -v python3 || command -v python)
"$python" -m venv "$venv"
bin="$venv/bin"
[[ -d $bin ]] || bin="$venv/Scripts"
"$bin/python" -m pip install --quiet --disable-pip-version-check "$GITHUB_ACTION_PATH"
{
    echo "python=$bin/python"
    echo "onnxprune=$bin/onnxprune"
} >>"$GITHUB_OUTPUT"

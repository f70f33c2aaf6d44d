#!/usr/bin/env bash
# Run the check: annotations and a job summary for GitHub, files for the steps after it, and its exit code.
set -euo pipefail

reports="$(mktemp -d "$RUNNER_TEMP/onnxprune-XXXXXX")"
arguments=(--format github --format "markdown=$reports/report.md" --format "json=$reports/report.json")

[[ -z ${INPUT_CONFIG:-} ]] || arguments+=(--config "$INPUT_CONFIG")
[[ -z ${INPUT_SARIF:-} ]] || arguments+=(--format "sarif=$INPUT_SARIF")
if [[ -n ${INPUT_BASELINE_REF:-} ]]; then
    ref=$INPUT_BASELINE_REF
    # actions/checkout fetches one commit only: get the one to compare with. What is computed from others, as
    # origin/main~2 is, can't be asked for.
    if [[ $ref == origin/* && $ref != *[~^:@]* ]] && ! git rev-parse --verify --quiet "$ref^{commit}" >/dev/null; then
        git fetch --quiet --no-tags --depth=1 origin "+${ref#origin/}:refs/remotes/$ref" || true
    fi
    arguments+=(--baseline-ref "$ref")
fi
# Without globbing: patterns are for the configuration, and a model's name may hold a bracket.
set -f
# shellcheck disable=SC2206
models=(${INPUT_MODELS:-})
set +f

status=0
"$ONNXPRUNE" check "${arguments[@]}" -- ${models[@]+"${models[@]}"} 2> >(tee "$reports/stderr" >&2) || status=$?
wait
if ((status > 1)); then
    # What stops the check is worth an annotation, too: one line, as the command line promises.
    line=$(tail -n 1 "$reports/stderr")
    echo "::error title=onnxprune check::${line//%/%25}"
fi
{
    echo "passed=$([[ $status == 0 ]] && echo true || echo false)"
    if [[ -f $reports/report.md ]]; then
        echo "markdown=$reports/report.md"
        echo "json=$reports/report.json"
    fi
} >>"$GITHUB_OUTPUT"
exit "$status"

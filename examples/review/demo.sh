#!/usr/bin/env bash
# The demo: three reviewers look at one change at the same time. Without arguments no key is needed: a
# script plays the models, all tools are real. Arguments go to `peritus run`: to ask a real model, set
# its key and give its provider, for example `demo.sh --provider anthropic`.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
if [[ -x "$here/../../.venv/bin/peritus" ]]; then
  PATH="$(cd "$here/../../.venv/bin" && pwd):$PATH"
fi

# A folder of its own, so that the demo can run again and again, and leaves this one as it was.
scratch="$(mktemp -d "${TMPDIR:-/tmp}/peritus-demo.XXXXXX")"
cp "$here/perstack.toml" "$here/script.toml" "$scratch/"
cp -r "$here/seed" "$scratch/workspace"
cd "$scratch"

if [[ $# -eq 0 ]]; then
  set -- --provider scripted --model script.toml
fi

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; "$@"; }

say peritus run review \
  "Review change.diff. Its purpose: notes can be read again, and the newest ones listed." --no-json "$@"
run="$(peritus runs --json --expert review --limit 1 | sed -E 's/.*"run":"([^"]+)".*/\1/')"
say peritus runs --no-json
say peritus replay "$run"
printf '\n\033[1mREVIEW.md in %s\033[0m\n' "$scratch/workspace"
cat workspace/REVIEW.md

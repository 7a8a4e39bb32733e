#!/usr/bin/env bash
# The demo: tests decide whether a program is right, not its author. Without arguments no key is needed: a
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

say peritus run build "Write roman.py. The tests in test_roman.py say what it has to do." --no-json "$@"
run="$(peritus runs --json --expert build --limit 1 | sed -E 's/.*"run":"([^"]+)".*/\1/')"
say peritus runs --no-json
say peritus replay "$run"
printf '\n\033[1mWhat the tests say now, in %s\033[0m\n' "$scratch/workspace"
cmp workspace/test_roman.py "$here/seed/test_roman.py"
peritus sandbox shell "$run" -- python3 -B -m unittest 2>&1

#!/usr/bin/env bash
# The demo: an expert asks, and waits for a person before it books and before it spends more than a
# little. The run works in the background; the person is this script, which answers and approves with
# commands of its own, as somebody at another terminal would. Without arguments no key is needed: a
# script plays the model, all tools are real. Arguments go to `peritus run`: to ask a real model, set
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

printf '\n\033[1m$ peritus run trip "Plan a day trip from Bern for Saturday." &\033[0m\n'
peritus run trip "Plan a day trip from Bern for Saturday." --no-json "$@" </dev/null &
job=$!
trap 'kill "$job" 2>/dev/null || true' EXIT

run=""
while kill -0 "$job" 2>/dev/null; do
  waiting="$(peritus waiting --no-json)"
  # Each thing that waits comes with the commands that settle it: `$ peritus approve RUN NAME`.
  read -r verb where name < <(
    sed -nE 's/^ +\$ peritus (answer|approve) ([^ ]+) ([^ ]+).*/\1 \2 \3/p' <<<"$waiting"
  ) || {
    sleep 0.2
    continue
  }
  run="$where"
  printf '\n\033[1m$ peritus waiting\033[0m\n%s\n' "$waiting"
  case "$verb" in
    answer) say peritus answer "$run" "$name" "We are two, we like water and old towns, at most 60 francs a head." ;;
    approve) say peritus approve "$run" "$name" --reason "fine with me" ;;
  esac
done
trap - EXIT
wait "$job"

if [[ -z "$run" ]]; then
  exit 0 # a real model may have had nothing to ask
fi
say peritus replay "$run"
printf '\n\033[1mbooking.json and plan.md in %s\033[0m\n' "$scratch/workspace"
cat workspace/booking.json workspace/plan.md

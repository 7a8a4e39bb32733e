/** What a run is told as: its entries, in order. Pure; which event makes which entry is elsewhere. */

/** Mark an entry as changed, so that only what changed is drawn anew. */
export function touch(run, entry) {
  entry.rev += 1;
  run.rev += 1;
}

export function add(run, data, entry) {
  const made = { id: `${run.name}-${data.version}`, atMs: data.at_ms, rev: 0, ...entry };
  run.entries.push(made);
  return made;
}

export const note = (run, data, text, tone = "plain") => add(run, data, { kind: "note", text, tone });

export const named = (by) => (by?.name ? ` by ${by.name}` : "");

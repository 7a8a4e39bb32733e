// Drives the protocol's own client through the actions it is given, and prints what it came to.
// Actions: {say}, {resume: {reason: payload}}, {cancel: true}, {tool: {name: content}}, {attend: true}
import { HttpAgent } from "@ag-ui/client";
import { createInterface } from "node:readline";

const [url, key, threadId] = process.argv.slice(2);
const agent = new HttpAgent({ url, threadId, headers: { Authorization: `Bearer ${key}` } });
let count = 0;

function parametersOf(action) {
  const runId = action.runId ?? `${process.pid}-${count++}`;
  if (action.say !== undefined) {
    agent.addMessage({ id: `u-${runId}`, role: "user", content: action.say });
  }
  for (const [name, content] of Object.entries(action.tool ?? {})) {
    const call = agent.messages.flatMap((m) => m.toolCalls ?? []).findLast((c) => c.function.name === name);
    agent.addMessage({ id: `t-${runId}`, role: "tool", toolCallId: call.id, content });
  }
  const resume = [];
  for (const one of agent.pendingInterrupts ?? []) {
    if (action.resume && one.reason in action.resume) {
      resume.push({ interruptId: one.id, status: "resolved", payload: action.resume[one.reason] });
    } else if (action.cancel) {
      resume.push({ interruptId: one.id, status: "cancelled" });
    }
  }
  return { runId, forwardedProps: action.props ?? {}, ...(resume.length ? { resume } : {}) };
}

async function perform(action) {
  const events = [];
  let failed = null;
  const hear = {
    onEvent: ({ event }) => {
      events.push(event);
      console.log(JSON.stringify({ event }));
      if (action.leaveAt && event.type === action.leaveAt) agent.abortRun();
    },
    onRunFailed: ({ error }) => { failed = String(error); },
  };
  if (action.tool) agent.pendingInterrupts = [];
  try {
    await agent.runAgent(parametersOf(action), hear);
  } catch (error) {
    failed = String(error);
  }
  const { messages, state, pendingInterrupts } = agent;
  console.log(JSON.stringify({ done: { messages, state, pendingInterrupts, failed } }));
}

for await (const line of createInterface({ input: process.stdin })) {
  await perform(JSON.parse(line));
}

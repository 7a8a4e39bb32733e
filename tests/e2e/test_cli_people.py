"""What people do to runs, by the real command, from other processes and over crashes.

The tests that begin with C14 are the rules of `immune` family C14, one each.
"""

import json
from typing import Any

import pytest

from tests.e2e.cli_project import Project, scripted
from tests.e2e.people_project import (
    COMMAND,
    DEFINITION,
    LEADING,
    QUESTION,
    TWO_COMMANDS,
    begin,
    types_of,
    waiting,
)

pytestmark = [pytest.mark.broker, pytest.mark.sandbox]


@pytest.fixture
def team(project: Project) -> Project:
    """A project with an expert that asks and writes, one that leads it, and their scripts."""
    project.write("perstack.toml", DEFINITION)
    for name, script in (
        ("asks", QUESTION),
        ("writes", COMMAND),
        ("twice", TWO_COMMANDS),
        ("leads", LEADING),
    ):
        project.write(f"{name}.toml", script)
    return project


def said(project: Project) -> str:
    file = project.workspace / "said"
    return file.read_text() if file.exists() else ""


def test_a_question_is_answered_from_a_second_process(team: Project) -> None:
    running = begin(team, "asks.toml")
    running.until("question.asked.v1")

    (shown,) = waiting(team)
    answered = team.peritus("answer", "one", "dark blue")
    end = running.until("run.completed.v2")

    assert (shown["kind"], shown["arguments"]) == ("question", {"text": "Which colour?"})
    assert answered.code == 0, answered.said
    assert "answered: clerk asks: Which colour?" in answered.said
    assert end["event"]["result"] == "Blue it is."
    assert running.end() == 0
    assert "peritus answer one c1-0 TEXT" in running.said
    assert team.peritus("answer", "one", "again").code == 6


def test_c14_a_wait_survives_kill_9_and_is_answered_and_carried_on_afterwards(
    team: Project,
) -> None:
    running = begin(team, "asks.toml")
    running.until("question.asked.v1")
    running.kill()

    shown = team.peritus("waiting", "--no-json")
    answered = team.peritus("answer", "one", "c1-0", "dark blue")
    resumed = team.peritus("resume", "one")

    assert "clerk asks: Which colour?" in shown.out
    assert answered.code == 0, answered.said
    assert "go on with: peritus resume one" in answered.said
    assert resumed.code == 0, resumed.said
    assert resumed.events[-1]["event"]["result"] == "Blue it is."
    assert "question.answered.v1" not in types_of(resumed)


def test_c14_an_approval_survives_kill_9_and_the_call_runs_once_where_it_is_taken_up(
    team: Project,
) -> None:
    running = begin(team, "writes.toml")
    running.until("approval.requested.v1")
    running.kill()

    approved = team.peritus("approve", "one", "c1-0")
    assert said(team) == ""
    resumed = team.peritus("resume", "one")

    assert approved.code == 0, approved.said
    assert resumed.code == 0, resumed.said
    assert "approval.requested.v1" not in types_of(resumed)
    assert said(team) == "hi\n"


def test_c14_what_runs_is_the_edited_call_with_a_new_digest_and_the_history_shows_it(
    team: Project,
) -> None:
    running = begin(team, "writes.toml")
    asked = running.until("approval.requested.v1")["event"]
    (shown,) = waiting(team)
    edit = {"command": "bash", "args": ["-c", "echo edited >> said"]}

    wrong = team.peritus("approve", "one", "--edit", "[1]")
    edited = team.peritus("approve", "one", shown["id"], "--edit", json.dumps(edit))
    decided = running.until("approval.decided.v1")["event"]
    told = running.until("input.received.v2")["event"]
    running.until("run.completed.v2")

    assert wrong.code == 2
    assert "must be a JSON object" in wrong.said
    assert edited.code == 0, edited.said
    assert running.end() == 0
    assert said(team) == "edited\n"
    assert (asked["digest"], decided["verdict"]) == (shown["digest"], "edited")
    assert decided["digest"] != asked["digest"]
    assert json.loads(decided["arguments"]) == edit
    assert decided["by"]["via"] == "cli"
    assert decided["by"]["name"]
    assert "A person changed the arguments" in told["parts"][0]["text"]
    assert "requests verified" in team.peritus("replay", "one").out


def test_c14_an_approval_addresses_a_call_and_the_digest_of_its_exact_arguments(
    team: Project,
) -> None:
    running = begin(team, "writes.toml")
    running.until("approval.requested.v1")
    (shown,) = waiting(team)

    others = team.peritus("approve", "one", f"{shown['id']}@00000000")
    another = team.peritus("approve", "one", "c9-0")
    assert said(team) == ""
    right = team.peritus("approve", "one", f"{shown['id']}@{shown['digest'][:8]}")
    running.until("run.completed.v2")

    assert (others.code, another.code, right.code) == (6, 6, 0)
    assert "other arguments than those you were shown" in others.said
    assert "c1-0 does" in another.said
    assert running.end() == 0
    assert said(team) == "hi\n"


def test_c14_what_runs_is_the_recorded_call_and_the_model_is_not_asked_again(
    team: Project,
) -> None:
    running = begin(team, "writes.toml")
    running.until("approval.requested.v1")
    team.peritus("approve", "one")
    events = [line["event"] for line in running.events()]

    types = [event["type"] for event in events]
    between = types[types.index("approval.decided.v1") : types.index("tool_call.ended.v1")]
    assert "generation.requested.v2" not in between
    assert events[0]["verdict"] == "approved"
    assert running.end() == 0
    assert said(team) == "hi\n"


def test_c14_parallel_approvals_are_decided_each_and_every_call_ends_exactly_once(
    team: Project,
) -> None:
    running = begin(team, "twice.toml")
    running.until("approval.requested.v1")
    running.until("approval.requested.v1")

    unclear = team.peritus("approve", "one")
    denied = team.peritus("deny", "one", "c1-1", "--reason", "not this one")
    team.peritus("approve", "one", "c1-0")
    events = [line["event"] for line in running.events()]

    assert unclear.code == 2
    assert "say which: c1-0, c1-1" in unclear.said
    assert denied.code == 0, denied.said
    assert running.end() == 0, running.said  # the script expects the reason and the result
    ended = [(one["call"], one["outcome"]) for one in events if one["type"] == "tool_call.ended.v1"]
    assert sorted(ended) == [("c1-0", "succeeded"), ("c1-1", "refused")]
    assert said(team) == "one\n"


def test_c14_an_approval_expires_and_the_model_is_told(team: Project) -> None:
    team.write("perstack.toml", DEFINITION + '[limits]\nanswerTime = "200ms"\n')
    outcome = team.peritus("run", "clerk", "Go", *scripted("writes.toml"), "--job", "one")

    assert outcome.code == 0, outcome.said
    decided = [one["event"] for one in outcome.events if "approval.decided" in str(one["event"])]
    ended = [one["event"] for one in outcome.events if "tool_call.ended" in str(one["event"])]
    assert [one["verdict"] for one in decided] == ["expired"]
    assert ended[0]["outcome"] == "refused"
    assert "Nobody answered in time" in ended[0]["content"][0]["text"]
    assert said(team) == ""


def test_what_is_remembered_exactly_lets_the_same_through_and_nothing_else(team: Project) -> None:
    team.write(
        "again.toml",
        COMMAND.replace('[[reply]]\ntext = "Written."\n', "")
        + COMMAND.replace('[[reply]]\ntext = "Written."\n', "")
        + COMMAND.replace("echo hi", "echo ho"),
    )
    running = begin(team, "again.toml")
    running.until("approval.requested.v1")

    first = team.peritus("approve", "one", "--remember-exact")
    again = running.until("approval.requested.v1")["event"]
    rules = team.peritus("policy", "one", "--no-json")
    cleared = team.peritus("policy", "one", "clear")
    team.peritus("approve", "one", "--all")
    running.until("run.completed.v2")

    assert first.code == 0, first.said
    assert "from now on in this job: allow" in first.said
    assert again["approval"] == "c3-0"
    assert "people      allow  expert clerk" in rules.out
    assert "definition  ask    tool exec  (commands are looked at first)" in rules.out
    assert cleared.code == 0, cleared.said
    assert running.end() == 0
    assert said(team) == "hi\nhi\nho\n"


def test_a_team_is_shown_as_a_tree_with_who_waits_for_what_and_a_child_is_decided_about(
    team: Project,
) -> None:
    running = begin(team, "leads.toml", expert="lead")
    asked = running.until("approval.requested.v1")

    tree = team.peritus("tree", asked["run"], "--no-json")
    members = [json.loads(line) for line in team.peritus("tree", "one").out.splitlines()]
    decided = team.peritus("approve", "one", "--remember")
    lines = list(running.events())

    head, lead, clerk = tree.out.splitlines()
    assert head.split() == ["EXPERT", "RUN", "STATUS", "STEP", "TOKENS", "WAITS", "FOR"]
    assert lead.split()[:3] == ["lead", "one", "running"]
    assert clerk.startswith("└─ clerk")
    assert "waiting" in clerk
    assert "wants to call exec bash -c" in clerk
    assert [(one["expert"], one["depth"]) for one in members] == [("lead", 0), ("clerk", 1)]
    assert decided.code == 0, decided.said
    assert running.end() == 0, running.said
    whose = {(line["run"], line["expert"], line["parent"]) for line in lines}
    assert whose == {("one", "lead", None), (asked["run"], "clerk", "one")}
    changed = [one for one in lines if one["event"]["type"] == "policy.changed.v1"]
    assert changed[0]["run"] == "one"


def test_a_run_is_paused_and_resumed_and_says_so(team: Project) -> None:
    running = begin(team, "asks.toml")
    running.until("question.asked.v1")

    paused = team.peritus("pause", "one")
    listed = team.peritus("runs", "--status", "paused")
    answered = team.peritus("answer", "one", "dark blue")
    running.until("question.answered.v1")
    resumed = team.peritus("resume", "one", "--detach")
    end = running.until("run.completed.v2")

    assert paused.code == 0, paused.said
    assert [json.loads(line)["run"] for line in listed.out.splitlines()] == ["one"]
    assert answered.code == 0, answered.said
    assert resumed.code == 0, resumed.said
    assert end["event"]["result"] == "Blue it is."
    assert running.end() == 0
    assert team.peritus("pause", "one").code == 6


def test_a_paused_run_whose_process_is_gone_goes_on_where_it_is_resumed(team: Project) -> None:
    running = begin(team, "asks.toml")
    running.until("question.asked.v1")
    team.peritus("pause", "one")
    running.kill()

    team.peritus("answer", "one", "dark blue")
    resumed = team.peritus("resume", "one")

    assert resumed.code == 0, resumed.said
    assert resumed.events[-1]["event"]["result"] == "Blue it is."


SLOW = """\
[[reply]]
text = "Brief."
expect = "Be brief"
[[reply.otherwise]]
text = "At length."
delay_ms = 50000
"""


def test_what_is_said_now_gives_up_the_reply_that_is_being_made(team: Project) -> None:
    team.write("slow.toml", SLOW)
    running = begin(team, "slow.toml")
    running.until("generation.requested.v2")

    steered = team.peritus("steer", "one", "Be brief.", "--now")
    heard = running.until("input.received.v2")["event"]
    given_up = running.until("generation.abandoned.v2")["event"]
    end = running.until("run.completed.v2")["event"]

    assert steered.code == 0, steered.said
    assert (heard["parts"][0]["text"], heard["by"]["via"]) == ("Be brief.", "cli")
    assert given_up["reason"] == "interrupted"
    assert end["result"] == "Brief."
    assert running.end() == 0
    assert team.peritus("steer", "one", "More").code == 6


SPENDS = """\
[[reply]]
text = "First."
usage = { input = 10000, output = 5000 }
[[reply.call]]
tool = "todo"
arguments = { newTodos = ["think"] }
[[reply]]
text = "Second."
usage = { input = 10000, output = 5000 }
"""


def test_a_hard_budget_stops_a_run_with_its_exit_code_and_a_larger_one_lets_it_go_on(
    team: Project,
) -> None:
    team.write("spends.toml", SPENDS)

    stopped = team.peritus(
        "run", "clerk", "Go", *scripted("spends.toml"), "--job", "one", "--max-tokens", "30000"
    )
    more = team.peritus(
        "run", "clerk", *scripted("spends.toml"), "--continue-job", "one", "--max-tokens", "90000"
    )

    assert stopped.code == 4, stopped.said
    assert "--continue --job one --max-tokens N" in stopped.said
    assert more.code == 0, more.said
    assert more.events[0]["event"]["tokens_max"] == 90_000
    assert more.events[-1]["event"]["result"] == "Second."


@pytest.mark.slow
def test_a_soft_limit_asks_and_the_run_waits_or_ends_with_its_own_code(team: Project) -> None:
    team.write("perstack.toml", DEFINITION + "[limits]\ntokensSoft = 30000\n")
    team.write("spends.toml", SPENDS)

    left = team.peritus("run", "clerk", "Go", *scripted("spends.toml"), "--job", "one", "--no-wait")
    (shown,) = waiting(team)
    approved = team.peritus("approve", "one", "budget-1")
    resumed = team.peritus("resume", "one")

    assert left.code == 8, left.said
    assert "may use more than 30,000 tokens" in left.said
    assert "peritus approve one budget-1" in left.said
    assert (shown["kind"], shown["limit"], shown["soft"]) == ("budget", "tokens", 30_000)
    assert approved.code == 0, approved.said
    assert resumed.code == 0, resumed.said


def test_dollars_are_counted_and_a_soft_budget_asks_before_the_hard_one_stops(
    team: Project,
) -> None:
    prices = '[prices."scripted/*"]\ninput = "1"\noutput = "2"\n'
    team.write("perstack.toml", DEFINITION + prices)
    team.write("spends.toml", SPENDS)
    words = ("run", "clerk", "Go", *scripted("spends.toml"), "--no-wait")

    asks = team.peritus(*words, "--job", "one", "--budget", "0.20", "--soft-budget", "0.05")
    stops = team.peritus(*words, "--job", "two", "--budget", "0.05")
    (shown,) = waiting(team)

    assert (asks.code, stops.code) == (8, 4), asks.said + stops.said
    assert "--budget USD" in stops.said
    assert (shown["unit"], shown["soft"], shown["most"]) == ("micro_usd", 50_000, 200_000)


def test_the_answer_can_be_given_as_perstack_does(team: Project) -> None:
    running = begin(team, "asks.toml", "--no-wait")
    assert running.end() == 8, running.said
    answer = {"toolCallId": "c1-0", "toolName": "question", "skillName": "ask", "text": "dark blue"}

    alone = team.peritus("run", "clerk", "-i", "dark blue")
    outcome = team.peritus("run", "clerk", json.dumps(answer), "--continue", "-i")

    assert alone.code == 2
    assert "--continue" in alone.said
    assert outcome.code == 0, outcome.said
    assert outcome.events[-1]["event"]["result"] == "Blue it is."


@pytest.mark.slow
def test_events_are_filtered_by_type_and_the_log_tells_the_rest(team: Project) -> None:
    begin(team, "asks.toml", "--no-wait").end()
    team.peritus("answer", "one", "dark blue")

    resumed = team.peritus(
        "run",
        "clerk",
        "Go",
        *scripted("writes.toml"),
        "--no-wait",
        "--filter",
        "approval.requested,callTools",
    )
    refused = team.peritus("run", "clerk", "Go", "--filter", "nonsense")
    summary = team.peritus("log", "--no-json")
    found = team.peritus("log", "--job", "one", "--filter", '.by.via == "cli"')
    none = team.peritus("log", "--job", "one", "--errors", "--no-json")

    assert resumed.code == 8, resumed.said
    assert types_of(resumed) == ["tool_call.requested.v2", "approval.requested.v1"]
    assert refused.code == 2
    assert "wants to call exec" in summary.out
    assert "question.answered.v1" in types_of(found)
    assert (none.code, none.out) == (0, "No data found\n")


def test_typed_input_is_given_as_data_and_refused_with_its_reason(team: Project) -> None:
    typed = DEFINITION.replace(
        'instruction = "Write."',
        'instruction = "Write."\ninput = { type = "object", required = ["n"], '
        'properties = { n = { type = "integer" } } }',
    )
    team.write("perstack.toml", typed)
    team.write("hello.toml", '[[reply]]\ntext = "Hello there."\n')

    def run(*words: str) -> Any:
        return team.peritus("run", "clerk", *words, *scripted("hello.toml"))

    wrong, text, neither = run("--input", '{"n": "x"}'), run("three"), run()
    right = run("--input", '{"n": 3}')

    assert [one.code for one in (wrong, text, neither)] == [2, 2, 2]
    assert "'x' is not of type 'integer'" in wrong.said
    assert "takes data" in text.said
    assert right.code == 0, right.said
    told = next(one for one in right.events if one["event"]["type"] == "input.received.v2")
    assert told["event"]["parts"][0]["text"] == '{"n":3}'

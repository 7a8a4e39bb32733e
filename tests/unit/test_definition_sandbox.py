"""What a file says of an expert's sandbox and secrets. Not what enforces it."""

from pathlib import Path

import pytest

from domain.definition import BASE_SKILL, BaseSkill, sandbox_of
from domain.sandbox import GIB, MIB, SandboxLimits, SandboxSettings, SecretGrant, covers
from peritus.definitions import DefinitionError, LoadedDefinition, load_definition

HELLO = '[experts.hello]\ninstruction = "Greet."\n'
DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(project: Path, text: str, *, lenient: bool = False) -> LoadedDefinition:
    path = project / "perstack.toml"
    path.write_text(text, encoding="utf-8")
    return load_definition(path, lenient=lenient)


def sandbox(project: Path, text: str) -> SandboxSettings:
    return load(project, HELLO + text).definition.experts["hello"].sandbox


def problems(project: Path, text: str) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        load(project, HELLO + text)
    return caught.value.message.splitlines()


def test_expert_without_a_table_has_the_operators_sandbox(project: Path) -> None:
    assert sandbox(project, "") == SandboxSettings()


def test_every_key_reaches_the_record(project: Path) -> None:
    found = sandbox(
        project,
        f"""
        [experts.hello.sandbox]
        memory = "512MiB"
        cpus = 1.5
        processes = 64
        openFiles = 128
        fileSize = "10 MiB"
        tmpSize = 1048576
        workspaceSize = "1GiB"
        workspaceFiles = 1000
        image = "python@{DIGEST}"
        readOnly = true
        workspace = "isolated"
        allowedDomains = ["example.com", "*.example.org"]
        egressBytes = "5MiB"
        egressRate = "64KiB"
        """,
    )
    assert found == SandboxSettings(
        limits=SandboxLimits(
            memory_bytes=512 * MIB,
            cpus=1.5,
            processes=64,
            open_files=128,
            file_bytes=10 * MIB,
            tmp_bytes=MIB,
            workspace_bytes=GIB,
            workspace_files=1000,
        ),
        image=f"python@{DIGEST}",
        read_only=True,
        workspace="isolated",
        allowed_domains=("example.com", "*.example.org"),
        egress_bytes_max=5 * MIB,
        egress_bytes_per_s=64 * 1024,
    )


def test_secrets_are_sorted_and_go_to_named_hosts_unless_the_file_says_otherwise(
    project: Path,
) -> None:
    found = sandbox(
        project,
        """
        [experts.hello.sandbox]
        allowedDomains = ["*.github.com"]
        [experts.hello.secrets.NPM_TOKEN]
        deliver = "file"
        [experts.hello.secrets.GH_TOKEN]
        hosts = ["api.github.com"]
        [experts.hello.secrets.OLD_KEY]
        deliver = "env"
        """,
    )
    assert found.secrets == (
        SecretGrant(name="GH_TOKEN", deliver="egress", hosts=("api.github.com",)),
        SecretGrant(name="NPM_TOKEN", deliver="file"),
        SecretGrant(name="OLD_KEY", deliver="env"),
    )


def test_secret_may_go_to_a_host_that_the_base_skill_allows(project: Path) -> None:
    text = (
        f'[experts.hello.skills."{BASE_SKILL}"]\nallowedDomains = ["api.github.com"]\n'
        '[experts.hello.secrets.GH_TOKEN]\nhosts = ["api.github.com"]\n'
    )
    assert sandbox(project, text).secrets[0].hosts == ("api.github.com",)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('memory = "512MB"', "'512MB' must be bytes, or a text such as '512MiB'"),
        ("memory = 100", "greater than or equal to 16777216"),
        ("memory = true", "must be a whole number"),
        ('tmpSize = "-1MiB"', "'-1MiB' must be bytes"),
        ("cpus = 0", "greater than or equal to 0.01"),
        ("cpus = inf", "finite number"),
        ('cpus = "two"', "experts.hello.sandbox.cpus must be a number"),
        ("processes = 0", "greater than or equal to 1"),
        ("readOnly = 1", "experts.hello.sandbox.readOnly must be true or false"),
        ('workspace = "private"', "'shared' or 'isolated'"),
        ('image = "--privileged"', "'--privileged' is not an image"),
        ('image = "Python:3"', "'Python:3' is not an image"),
        ('allowedDomains = ["https://example.com"]', "must be a host such as 'example.com'"),
        ('allowedDomains = ["a.*.com"]', "must be a host such as 'example.com'"),
        ('allowedDomains = ["*"]', "must be a host such as 'example.com'"),
        ('allowedDomains = ["127.0.0.1"]', "'127.0.0.1' is an address"),
        ('allowedDomains = ["xn--80ak6aa92e.com"]', "in ASCII"),
        ('allowDomains = ["a.com"]', "did you mean 'allowedDomains'?"),
        ("readonly = true", "did you mean 'readOnly'?"),
        ('backend = "landlock"', "unknown key 'backend' in experts.hello.sandbox"),
        ("privileged = true", "unknown key 'privileged' in experts.hello.sandbox"),
    ],
)
def test_wrong_key_of_a_sandbox_is_an_error_on_its_line(
    project: Path, line: str, says: str
) -> None:
    (problem,) = problems(project, f"[experts.hello.sandbox]\n{line}\n")
    assert problem.startswith("perstack.toml:4: ")
    assert says in problem


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("[experts.hello.secrets.KEY]\n", 3, "needs 'hosts'"),
        ('[experts.hello.secrets.KEY]\ndeliver = "argv"\n', 4, "'egress', 'file' or 'env'"),
        (
            '[experts.hello.secrets.KEY]\ndeliver = "env"\nhosts = ["a.com"]\n',
            5,
            "'hosts' cannot hold back a secret with deliver = \"env\"",
        ),
        (
            '[experts.hello.secrets.KEY]\nhosts = ["a.com"]\n',
            4,
            "'a.com' cannot be reached: add it to 'allowedDomains'",
        ),
        ('[experts.hello.secrets.KEY]\nvalue = "hunter2"\n', 4, "unknown key 'value'"),
        ('[experts.hello.secrets.KEY]\nhost = ["a.com"]\n', 4, "did you mean 'hosts'?"),
        ('[experts.hello.secrets.KEY]\nhosts = ["10.0.0.1"]\n', 4, "is an address"),
        (
            '[experts.hello.secrets."A-B"]\ndeliver = "env"\n',
            3,
            "'A-B' cannot name a secret: use letters, digits and '_'",
        ),
        ('secrets = "all"\n', 3, "must be a table"),
        ("[experts.hello]\nsandbox = 1\n", 0, "not TOML"),
    ],
)
def test_wrong_secret_is_an_error_on_its_line(project: Path, text: str, at: int, says: str) -> None:
    found = problems(project, text)
    assert any(says in one for one in found)
    assert not at or any(one.startswith(f"perstack.toml:{at}: ") for one in found)


def test_wrong_sandbox_does_not_hide_what_else_is_wrong(project: Path) -> None:
    text = (
        "[experts.hello.sandbox]\ncpus = 0\n"
        f'[experts.hello.skills."{BASE_SKILL}"]\npik = ["exec"]\n'
    )
    assert len(problems(project, text)) == 2


def test_unknown_key_is_a_notice_when_reading_leniently(project: Path) -> None:
    loaded = load(project, HELLO + "[experts.hello.sandbox]\ncolour = 1\n", lenient=True)
    assert loaded.notices == (
        "perstack.toml:4: unknown key 'colour' in experts.hello.sandbox (ignored)",
    )


def test_sandbox_of_an_expert_has_the_domains_and_variables_of_its_base_skill(
    project: Path,
) -> None:
    text = (
        '[experts.hello.sandbox]\nallowedDomains = ["a.com", "B.com"]\n'
        '[experts.hello.secrets.GH_TOKEN]\ndeliver = "file"\n'
        f'[experts.hello.skills."{BASE_SKILL}"]\nallowedDomains = ["b.com", "*.c.com"]\n'
        'requiredEnv = ["GH_TOKEN", "NPM_TOKEN", "NPM_TOKEN"]\n'
    )
    expert = load(project, HELLO + text).definition.experts["hello"]
    found = sandbox_of(expert)
    assert found.allowed_domains == ("a.com", "b.com", "*.c.com")
    assert found.secrets == (
        SecretGrant(name="GH_TOKEN", deliver="file"),
        SecretGrant(name="NPM_TOKEN", deliver="env"),
    )
    assert expert.sandbox.secrets == (SecretGrant(name="GH_TOKEN", deliver="file"),)


def test_sandbox_of_an_expert_that_asks_for_nothing_is_its_own(project: Path) -> None:
    expert = load(project, HELLO).definition.experts["hello"]
    assert isinstance(expert.skills[BASE_SKILL], BaseSkill)
    assert sandbox_of(expert) == expert.sandbox


@pytest.mark.parametrize(
    ("pattern", "host", "allowed"),
    [
        ("example.com", "example.com", True),
        ("Example.com", "eXample.com", True),
        ("example.com", "a.example.com", False),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "*.a.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "badexample.com", False),
        ("a.example.com", "*.example.com", False),
    ],
)
def test_pattern_covers_names_below_it_only(pattern: str, host: str, *, allowed: bool) -> None:
    assert covers(pattern, host) is allowed

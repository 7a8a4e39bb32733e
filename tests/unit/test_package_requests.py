"""What `npx` and `uvx` are asked to run, read from a skill's command line."""

import pytest

from services.sandbox.packages.request import PackageRefused, Request, pinned, requested
from services.sandbox.packages.settings import PackageSettings


def request(kind: str, packages: str, program: str = "", args: str = "") -> Request:
    first, *_ = names = packages.split()
    name = "@" + first[1:].split("@")[0] if first.startswith("@") else first
    for sign in "@=<>[":
        name = name[0] + name[1:].split(sign)[0]
    return Request.model_validate(
        {
            "kind": kind,
            "name": name,
            "packages": tuple(names),
            "program": program,
            "args": tuple(args.split()),
        }
    )


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("npx server", request("npm", "server@latest")),
        ("/usr/bin/npx -y @scope/server", request("npm", "@scope/server@latest")),
        (
            "npx --yes -q @scope/server@1.2.3 --flag x",
            request("npm", "@scope/server@1.2.3", "", "--flag x"),
        ),
        ("npx server@^1.2 -y", request("npm", "server@^1.2", "", "-y")),
        ("npx -y -p one@2 --package=two run it", request("npm", "one@2 two@latest", "run", "it")),
        ("npx -y -- server", request("npm", "server@latest")),
        ("uvx mcp-server-git", request("pypi", "mcp-server-git", "mcp-server-git")),
        ("uvx server@1.2.3 --repo .", request("pypi", "server==1.2.3", "server", "--repo .")),
        ("uvx server@latest", request("pypi", "server", "server")),
        ("uvx --from server[all]>=1,<2 run", request("pypi", "server[all]>=1,<2", "run")),
        ("uvx --from=server --with other==1 run", request("pypi", "server other==1", "run")),
        ("uv tool run server==3", request("pypi", "server==3", "server")),
    ],
)
def test_a_line_says_which_packages_and_what_of_them(line: str, wanted: Request) -> None:
    command, *args = line.split()
    assert requested(command, tuple(args)) == wanted


@pytest.mark.parametrize(
    "line", ["python3 -m server", "node npx", "uv run server.py", "docker run x"]
)
def test_any_other_program_is_no_request(line: str) -> None:
    command, *args = line.split()
    assert requested(command, tuple(args)) is None
    assert pinned(command, tuple(args), "1") == tuple(args)


@pytest.mark.parametrize(
    "args",
    [
        *(["owner/repo"], ["github:owner/repo"], ["git+https://h/r"], ["https://h/x.tgz"]),
        *(["./folder"], ["../x"], ["/abs"], ["x.tgz"], ["name@file:x"], ["name@npm:other@1"]),
        *(["name@https://h/x"], ["@scope"], ["name;x"], ["$(x)"], ["a\nb"], [""], [" x"], ["."]),
    ],
)
def test_npx_takes_nothing_but_names_and_versions(args: list[str]) -> None:
    with pytest.raises(PackageRefused, match="names no npm package of a registry: write name"):
        requested("npx", ("-y", *args))


@pytest.mark.parametrize(
    "args",
    [
        *(["git+https://h/r"], ["name @ https://h/x"], ["./folder"], ["/abs"], ["x.whl"]),
        *(
            ["name;python_version>'3'"],
            ["name==1 --index-url=x"],
            ["a/b"],
            ["-e."],
            ["name@file:x"],
        ),
    ],
)
def test_uvx_takes_nothing_but_names_and_versions(args: list[str]) -> None:
    with pytest.raises(PackageRefused):
        requested("uvx", ("--from", *args, "run"))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("npx", "nothing to run"),
        ("npx -y", "nothing to run"),
        ("npx -p server", "nothing to run"),
        ("npx -p", "wants the name of a package"),
        ("npx -c ls", "'-c' is not known here; there are: --package"),
        ("npx --registry=https://evil server", "is not known here"),
        ("uvx --index-url https://evil server", "is not known here"),
        ("uvx --python 3.9 server", "is not known here"),
    ],
)
def test_an_option_that_would_change_more_than_the_package_is_refused(line: str, says: str) -> None:
    command, *args = line.split()
    with pytest.raises(PackageRefused, match=says):
        requested(command, tuple(args))


@pytest.mark.parametrize(
    ("line", "at"),
    [
        ("npx -y @scope/server x", "-y @scope/server@1.2.3 x"),
        ("npx -y server@^1 server", "-y server@1.2.3 server"),
        ("npx --package=server@2 run", "--package=server@1.2.3 run"),
        ("uvx server", "server@1.2.3"),
        ("uvx --from server[all]>=1 run server", "--from server[all]@1.2.3 run server"),
        ("uv tool run server@1", "tool run server@1.2.3"),
    ],
)
def test_a_version_can_be_pinned_and_is_read_again(line: str, at: str) -> None:
    command, *args = line.split()
    exact = pinned(command, tuple(args), "1.2.3")
    assert " ".join(exact) == at
    again = requested(command, exact)
    assert again is not None
    assert again.packages[0].endswith(("@1.2.3", "==1.2.3"))


def test_what_is_reached_for_a_registry_is_its_host_and_those_an_operator_adds() -> None:
    settings = PackageSettings(
        npm_registry="https://npm.example:8443/mirror/", npm_hosts=("files.example",)
    )
    assert settings.reach("npm").domains == ("files.example", "npm.example")
    assert settings.reach("pypi").domains == ("files.pythonhosted.org", "pypi.org")


@pytest.mark.parametrize("url", ["ftp://x", "registry.npmjs.org", "https://", "https://u:p@host/"])
def test_a_registry_is_an_address_without_credentials(url: str) -> None:
    with pytest.raises(ValueError, match="no address of a registry"):
        PackageSettings(npm_registry=url)

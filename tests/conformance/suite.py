"""The official MCP conformance suite, out of npm, and a Node that it runs on. No results."""

import shutil
import subprocess
from pathlib import Path

PACKAGE = "@modelcontextprotocol/conformance"
RELEASES = ("0.1.16", "0.2.0-alpha.12")
"""The newest stable one knows revisions until 2025-11-25; the other one knows 2026-07-28 too."""

NODE = "22.23.3"
NODE_MAJOR = 22
BOUND_S = 600


def node_in(folder: Path) -> str:
    """The program that runs the suite: the system's, or one that is fetched into the folder."""
    found = shutil.which("node")
    if found is not None:
        said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
        if int(said.stdout.removeprefix("v").partition(".")[0]) >= NODE_MAJOR:
            return found
    _install(folder / "node", f"node@{NODE}")
    return str(folder / "node" / "node_modules" / "node" / "bin" / "node")


def suite_in(folder: Path, release: str) -> Path:
    """The suite of a release, fetched into a folder that is made for it."""
    _install(folder, f"{PACKAGE}@{release}")
    return folder / "node_modules" / PACKAGE / "dist" / "index.js"


def _install(folder: Path, package: str) -> None:
    folder.mkdir()
    (folder / "package.json").write_text('{"private": true}')
    command = ["npm", "install", "--no-fund", "--no-audit", "--silent", package]
    subprocess.run(command, cwd=folder, check=True, timeout=BOUND_S)

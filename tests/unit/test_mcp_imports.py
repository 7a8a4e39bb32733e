"""The SDK of MCP is loaded with the first connection: most runs have none, and it takes long."""

import subprocess
import sys

MODULES = ("services.tool.mcp.host", "services.tool.mcp.calls", "services.tool.mcp.pool")


SCRIPT = "import sys, {}; sys.exit(' '.join({{'mcp', 'mcp_types'}} & {{*sys.modules}}) or 0)"


def test_what_a_worker_starts_with_does_not_load_the_sdk() -> None:
    command = [sys.executable, "-c", SCRIPT.format(", ".join(MODULES))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")

"""`python -m peritus` is the command `peritus`."""

import sys

from peritus.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m peritus.simulation --seeds N`: many worlds; a failing seed is the bug report."""

import argparse
import logging
import os
import sys
import time

from peritus.simulation.world import has_team, simulate


def main() -> int:
    """Run seeds one after another; exit code 1 as soon as one finds a problem."""
    parser = argparse.ArgumentParser(prog="peritus.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--teams", action="store_true", help="only the worlds with many delegates")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a problem")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # trouble is the point here, and reported at the end
    logging.getLogger().addHandler(logging.NullHandler())
    begun, failed, envelopes, faults, lives = time.monotonic(), 0, 0, 0, 0
    for seed in range(options.first, options.first + options.seeds):
        if options.teams and not has_team(seed):
            continue
        report = simulate(seed)
        envelopes += report.envelopes
        faults += report.faults
        lives += report.lives
        if report.problems:
            failed += 1
            lines = "\n  ".join(report.problems)
            sys.stdout.write(f"seed {seed}: {len(report.problems)} problems\n  {lines}\n")
            sys.stdout.flush()
            if not options.keep_going:
                break
    took_s = time.monotonic() - begun
    sys.stdout.write(
        f"{options.seeds} seeds, {envelopes} envelopes, {faults} faults, {lives} worker lives, "
        f"{took_s:.0f} s: {failed} failed\n"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets of strings are ordered by their hash: one seed is one world only with a fixed one.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "peritus.simulation", *sys.argv[1:]])  # noqa: S606
    sys.exit(main())

"""What `minRuntimeVersion` asks for, beside the version of this release. Not a version scheme."""

import importlib.metadata
import re

from peritus.definitions.lines import Loc
from peritus.definitions.report import Report

_VERSION = re.compile(r"v?(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?(?:[-+].*)?", re.ASCII)


def check_min_version(report: Report, wanted: str, loc: Loc, *, own: str | None = None) -> None:
    """Tell of an expert that asks for a runtime later than this one (`own`: that of this package).

    It is a notice and no more: a file of the seed counts the seed's releases, which say nothing of
    ours, and whatever a file needs that this release does not know is an error by itself.
    """
    own = own or importlib.metadata.version("peritus")
    asked, have = _numbers(wanted), _numbers(own)
    if asked is None:
        message = (
            f"minRuntimeVersion {wanted!r} is not a version such as '1.0.0', so it is not compared"
        )
        report.notice(loc, message)
    elif have is not None and asked > have:
        message = (
            f"minRuntimeVersion is {wanted}, and this is Peritus {own}: it is run all the same, "
            "since every key this release does not know is an error"
        )
        report.notice(loc, message)


def _numbers(version: str) -> tuple[int, ...] | None:
    found = _VERSION.fullmatch(version)
    return None if found is None else tuple(int(number or 0) for number in found.groups())

"""A real run in a process of its own, whose second tomogram takes a minute."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

if __name__ == "__main__":
    import resource

    import killable_stages

    from tomopolish.cli import run
    from tomopolish.run import align as whole_run

    arguments = sys.argv[1:]
    if arguments[0].startswith("limit="):
        limit = int(arguments.pop(0).removeprefix("limit="))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    defaults: dict[str, Any] = whole_run.run_align.__kwdefaults__
    defaults["stages"] = killable_stages.STAGES
    sys.exit(run(["align", *arguments]))

"""The W&B workspace that compares the heads of a project.

Example: python scripts/dashboard.py --save

Publish runs first (scripts/publish.py), or log them while they train. Each --save makes a new view,
with the newest run of fcn as its baseline.
"""

import argparse

from segattn.base.commandline import plain_errors
from segattn.tracking.dashboard import (
    build_workspace,
    find_baseline,
    packages,
    save_workspace,
    workspace_json,
)
from segattn.tracking.login import log_in


def main() -> None:
    """Print or save it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--dry-run", action="store_true", help="print it as JSON; needs no login")
    action.add_argument("--save", action="store_true", help="save it as a view and print its page")
    parser.add_argument("--project", default="segattn", help="of the runs (default: segattn)")
    parser.add_argument("--entity", help="user or team (default: your login's)")
    parser.add_argument("--experiment", help="show the runs of one experiment alone")
    arguments = parser.parse_args()
    facts = {"project": arguments.project, "experiment": arguments.experiment}
    with plain_errors():
        if arguments.dry_run:
            print(workspace_json(build_workspace(entity=arguments.entity or "ENTITY", **facts)))
            return
        packages()  # before anybody logs in for nothing
        own = log_in()
        facts["entity"] = arguments.entity or own
        print(save_workspace(build_workspace(baseline=find_baseline(**facts), **facts)))


if __name__ == "__main__":
    main()

"""Make, or bring up to date, what a run on AWS needs: bucket, role, logs, function.

Each step is taken only if it is needed, so that this can be run again at any time. The worker's
package is FILE, or runtime/dist/hstmap-*.zip as runtime/build leaves it, or else what is installed
here, if this machine is like Lambda's.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hstmap.aws.settings import AwsSettings
    from hstmap.cli import Console

HELP = "set AWS up for runs"

_BUILT = Path("runtime", "dist")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from hstmap.commands.aws_target import add_target_arguments

    add_target_arguments(parser)
    code = parser.add_mutually_exclusive_group()
    code.add_argument("--package", type=Path, metavar="FILE", help="the worker, zipped")
    code.add_argument(
        "--image", metavar="URI", nargs="?", const="",
        help="the worker as an image of ECR; without URI: as runtime/build --image --push left it",
    )  # fmt: skip
    parser.add_argument(
        "--include", action="append", default=[], metavar="MODULE_OR_FILE",
        help="put a module of yours into the package, for functions of bags that import it when "
        "they run; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--policies", action="store_true",
        help="print the policies of worker, runner, deployer and of who pushes images",
    )  # fmt: skip


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Deploy."""
    from hstmap.aws.deploy import deploy
    from hstmap.aws.package_include import package_with
    from hstmap.aws.policy import deployer_policy, pusher_policy, runner_policy, worker_policy
    from hstmap.commands.aws_target import open_target, show_steps
    from hstmap.errors import UsageError

    session, settings = open_target(arguments.config)
    if arguments.policies:
        documents = {
            "worker": worker_policy(settings),
            "runner": runner_policy(settings),
            "deployer": deployer_policy(settings),
            "pusher": pusher_policy(settings),
        }
        console.give(json.dumps(documents, indent=2))
        return 0
    if arguments.package is not None and not zipfile.is_zipfile(arguments.package):
        raise UsageError(
            f"{arguments.package} is no zip file: give the one that runtime/build --zip has made"
        )
    with tempfile.TemporaryDirectory() as scratch:
        code: Path | str | None = arguments.image
        if code is None:
            code = arguments.package or _package(settings, Path(scratch), console)
            if arguments.include:
                code = package_with(code, arguments.include, Path(scratch))
        elif arguments.include:
            raise UsageError("an image is as it was built: give --include to runtime/build --image")
        steps = deploy(session, settings, code, dry_run=arguments.dry_run)
        show_steps(steps, console, dry_run=arguments.dry_run)
    return 0


def _package(settings: AwsSettings, scratch: Path, console: Console) -> Path:
    """Find the package that was built, or build one of what is installed here."""
    import hstmap
    from hstmap.aws.package import Target, build_installed
    from hstmap.errors import UsageError

    target = Target(architecture=settings.architecture)
    built = _BUILT / f"hstmap-{hstmap.__version__}-{target.tag}.zip"
    if built.is_file():
        return built
    here = Target.here()
    if here != target:
        raise UsageError(
            f"there is no {built}, and what is installed here is for {here.architecture}: "
            f"build it, by runtime/build --zip --arch {target.architecture} (on a loopback AWS set "
            f"architecture to {here.architecture} instead)"
        )
    console.say(f"package   built    of what is installed here; there is no {built}")
    return build_installed(scratch)

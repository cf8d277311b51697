"""The command line: ``python -m geobook describe | doctor | reproduce | report``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process by default.

    Returns
    -------
    int
        0 if it went well, 1 if something required is missing, 2 for a mistake in the arguments,
        130 where it was interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        parsed = _parser(arguments).parse_args(arguments)
        return int(parsed.command(parsed) or 0)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        print(f"geobook: error: {error}; `python -m geobook doctor` says more", file=sys.stderr)
        return 1
    except Exception as error:
        if not _is_mistake(error):
            raise
        print(f"geobook: error: {error}", file=sys.stderr)
        return 2


def _is_mistake(error: Exception) -> bool:
    """Whether the message is what the user needs, and a traceback would only hide it."""
    from geobook.data import DamagedData, DataUnavailable
    from geobook.results import AlteredResults

    told = ValueError | MemoryError | DataUnavailable | DamagedData | AlteredResults
    return isinstance(error, told)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="geobook", description="Data tracks, straightness and optimal transport of networks."
    )
    commands = parser.add_subparsers(metavar="command", required=True)

    describe = commands.add_parser("describe", help="the parts of a network: shapes, parameters")
    describe.add_argument("name", nargs="?", help="an architecture; without it, all are listed")
    describe.add_argument("--blocks", type=int, metavar="L", help="blocks of every stage")
    describe.add_argument("--width", type=int, metavar="W", help="width (channels) of stage 1")
    describe.add_argument("--norm", help="batch norm: none, inner or both")
    describe.set_defaults(command=_describe)

    doctor = commands.add_parser("doctor", help="versions, device, data sets; what is missing")
    doctor.set_defaults(command=_doctor)

    chosen = next((word for word in arguments if not word.startswith("-")), None)
    for name, text in (
        ("reproduce", "run a named experiment and write its results"),
        ("report", "print published results as tables"),
    ):
        command = commands.add_parser(name, help=text)
        # The experiments import much, so only their own commands load them.
        if chosen == name:
            from geobook import experiments

            getattr(experiments, f"{name}_arguments")(command)
            command.set_defaults(command=getattr(experiments, f"{name}_command"))
    return parser


def _describe(arguments: argparse.Namespace) -> int:
    from geobook import networks

    if arguments.name is None:
        print("\n".join(networks.ARCHITECTURES))
        return 0
    options = {"blocks": arguments.blocks, "width": arguments.width, "norm": arguments.norm}
    changes = {name: value for name, value in options.items() if value is not None}
    print(networks.describe(arguments.name, **changes))
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from geobook import _doctor

    found = _doctor.findings()
    print(_doctor.report(found))
    return int(any(finding.fatal for finding in found))


if __name__ == "__main__":
    sys.exit(main())

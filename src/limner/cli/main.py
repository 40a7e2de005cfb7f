"""The command `limner`. Each command imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from limner import __version__
from limner.cli import convert, doctor, processes, run
from limner.errors import Invalid, LimnerError, Misconfigured, WorkflowInvalid

app = typer.Typer(
    name="limner",
    help="A production server for ComfyUI workflows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("serve")(processes.serve)
app.command("run")(run.run)
app.command("convert")(convert.convert)
app.command("gateway")(processes.gateway)
app.command("worker")(processes.worker)
app.command("doctor")(doctor.doctor)

DEBUG = "--debug"  # holds wherever it stands
FAILED, MISUSED, CTRL_C = 1, 2, 130


def _version(wanted: bool) -> None:
    if wanted:
        print(f"limner {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show a traceback where something fails.")] = False,
) -> None:
    """A production server for ComfyUI workflows."""


def main() -> None:
    """Runs a command. Errors are one clear line on standard error; 2: asked for wrongly, 1: failed."""
    arguments = [argument for argument in sys.argv[1:] if argument != DEBUG]
    if len(arguments) < len(sys.argv) - 1:
        app(arguments)
    try:
        app(arguments)
    except LimnerError as error:
        print(f"limner: {_text(error)}", file=sys.stderr)
        sys.exit(MISUSED if isinstance(error, Misconfigured | Invalid) else FAILED)
    except KeyboardInterrupt:
        print("limner: stopped", file=sys.stderr)
        sys.exit(CTRL_C)
    except OSError as error:
        print(f"limner: {error}", file=sys.stderr)
        sys.exit(FAILED)
    except Exception as error:  # a fault of Limner's own: one line as well, and where to see more
        print(f"limner: {type(error).__name__}: {error} ({DEBUG} shows where)", file=sys.stderr)
        sys.exit(FAILED)


def _text(error: LimnerError) -> str:
    """The error, and under it each fault of a workflow on a line of its own."""
    lines = [error.message]
    if isinstance(error, WorkflowInvalid):
        for node_id, node in error.node_errors.items():
            faults = node["errors"]
            lines += [f"  node {node_id} ({node['class_type']}): {f['message']}: {f['details']}" for f in faults]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

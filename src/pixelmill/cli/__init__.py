"""The command line: one explicit table of commands, of which only the one that is asked for is imported.

Owns exit codes and how errors are shown; decides nothing else. Exit codes: 0 all went well, 1 something failed, 2 the
command line or the configuration is wrong, 130 ended by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from pixelmill import __version__
from pixelmill.cli.state import Globals, Stopped
from pixelmill.errors import ConfigError, MissingExtra, ModelMissing, PipelineError, PixelmillError

USAGE = (ConfigError, MissingExtra, ModelMissing, PipelineError)
"""Errors in what was typed or configured: exit code 2."""


@dataclass(frozen=True, slots=True)
class Row:
    """A command: its module and the name in there, a function, or a ``typer.Typer`` of further commands."""

    name: str
    module: str
    member: str
    summary: str


COMMANDS: tuple[Row, ...] = (
    Row("run", "pixelmill.cli.run", "run", "Run a pipeline over files here and now, on all cores, without a service."),
    Row("serve", "pixelmill.cli.serve", "serve", "Start the service: REST, jobs, pages."),
    Row("node", "pixelmill.cli.node", "node", "Work for a hub (--join), or be a stateless container."),
    Row(
        "worker",
        "pixelmill.cli.worker",
        "worker",
        "Run queued tasks of a service on this machine.",
    ),
    Row("jobs", "pixelmill.cli.jobs", "app", "Submit, list, watch, cancel, retry and fetch jobs of a service."),
    Row("operations", "pixelmill.cli.operations", "operations", "List operations, or explain one with its parameters."),
    Row("formats", "pixelmill.cli.formats", "formats", "List formats, or explain the options of format:NAME."),
    Row("models", "pixelmill.cli.models", "app", "List, fetch, check and remove the weights of learned operations."),
    Row("presets", "pixelmill.cli.presets", "presets", "List presets: the built-in ones and yours."),
    Row("inspect", "pixelmill.cli.inspect", "inspect", "Say what image files are, from their headers."),
    Row(
        "triggers",
        "pixelmill.cli.triggers",
        "app",
        "Rules that run a pipeline when an object appears: list, check, try, redrive.",
    ),
    Row("tokens", "pixelmill.cli.tokens", "app", "Create, list and revoke access tokens."),
    Row(
        "reconcile",
        "pixelmill.cli.reconcile",
        "reconcile",
        "Rebuild the state of jobs from the queue and the stored results.",
    ),
    Row("backup", "pixelmill.cli.backup", "backup", "Write the state of a service to one file, while it runs."),
    Row("restore", "pixelmill.cli.backup", "restore", "Make a backup the state of an empty data folder."),
    Row(
        "doctor",
        "pixelmill.cli.doctor",
        "doctor",
        "Check this machine: what is installed, what is missing, what to do.",
    ),
    Row("config", "pixelmill.cli.settings", "app", "Show every setting, its value, and where that came from."),
    Row("simulate", "pixelmill.cli.simulate", "simulate", "Compare gate rules over recorded load: waits and cost."),
    Row(
        "desktop", "pixelmill.cli.desktop", "desktop", "Open the pages in a window, with a service of its own or yours."
    ),
    Row("bench", "pixelmill.cli.bench", "app", "Measure a service as a study does, or under load; write a report."),
    Row("demo", "pixelmill.cli.demo", "demo", "Run a job over sample images on a private service."),
)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The ``pixelmill`` command. Ends the process with the exit code of the table above."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        build(arguments)(args=arguments, prog_name="pixelmill")
        code = 0
    except PixelmillError as error:
        code = _report(error, debug="--debug" in arguments)
    except KeyboardInterrupt:
        code = 130
    except Stopped as stopped:
        code = stopped.code
    except BrokenPipeError:
        # The reader of our output has left (`| head`): nothing to say, and nothing to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:
        if "--debug" in arguments:
            raise
        _complain(f"pixelmill: unexpected {type(error).__name__}: {error}")
        _complain("This is a defect in Pixelmill; run the command again as `pixelmill --debug …` for the traceback.")
        code = 1
    finally:
        _forget_interrupts()
    sys.exit(code)


def _forget_interrupts() -> None:
    """Let the exit code stand also where Ctrl-C came while text was being run as code.

    CPython notes a KeyboardInterrupt that leaves such code (a dataclass that is being made, say) as one that nobody
    handled, and after `python -m` it then dies of SIGINT whatever the exit code is. Running any text clears the note.
    """
    exec("")  # noqa: S102 -- no code


def build(arguments: Sequence[str]) -> typer.Typer:
    """The Typer app. Commands that ``arguments`` don't name are stubs, so that nothing of theirs is imported."""
    app = typer.Typer(
        help="Image pipelines over one image or a million.",
        # Rich would double the time that --help takes.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_globals)
    completing = "_PIXELMILL_COMPLETE" in os.environ
    for row in COMMANDS:
        member = (
            getattr(importlib.import_module(row.module), row.member) if completing or row.name in arguments else _stub
        )
        if isinstance(member, typer.Typer):
            app.add_typer(member, name=row.name, help=row.summary, short_help=row.summary)
        else:
            app.command(row.name, help=_help_of(member, row), short_help=row.summary)(member)
    return app


def _help_of(member: Callable[..., Any], row: Row) -> str:
    return (
        row.summary if member is _stub else f"{row.summary}\n\n{(member.__doc__ or '').partition(chr(10))[2]}".rstrip()
    )


def _stub() -> None:
    """Stands in for a command that was not named."""


def _version(wanted: bool) -> None:
    if wanted:
        print(f"pixelmill {__version__}")
        raise typer.Exit


def _globals(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="Configuration file, instead of pixelmill.toml in the current folder.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    del version
    context.obj = Globals(config, debug)


def _report(error: PixelmillError, *, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exception(error)
    else:
        _complain(f"pixelmill: {error}")
    return 2 if isinstance(error, USAGE) else 1


def _complain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

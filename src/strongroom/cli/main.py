"""The `strongroom` command: a table of nouns, each imported only when it is named."""

import importlib
import os
import sys
from typing import Annotated, Any

import typer
import typer.main
from typer.core import TyperGroup
from typer.exceptions import Abort, TyperException

from strongroom import __version__
from strongroom.errors import ConfigurationError, StrongroomError
from strongroom.outcome import OK, fail

# noun -> (module, attribute, one line of help). An attribute is a typer.Typer (noun with verbs) or a function.
NOUNS: dict[str, tuple[str, str, str]] = {
    "demo": (
        "strongroom.cli.demo",
        "demo_app",
        "Run the loan-default job end to end on this machine (simulated platform).",
    ),
    "seal": ("strongroom.cli.seal", "seal_app", "Encrypt a file in Gramine's format, bound to its path."),
    "open": ("strongroom.cli.seal", "open_app", "Decrypt a sealed file."),
    "inspect": ("strongroom.cli.inspect", "inspect_app", "Show version, size, path and pin of a sealed file."),
    "key": ("strongroom.cli.key", "app", "Keys held by the broker."),
    "workload": ("strongroom.cli.workload", "app", "Workload definitions: measure, show, run."),
    "authorize": ("strongroom.cli.authorize", "authorize_app", "Grant keys to a workload, pinned to its measurement."),
    "revoke": ("strongroom.cli.authorize", "revoke_app", "Take a grant back; it counts at once."),
    "broker": ("strongroom.cli.broker", "app", "The key broker: init, serve, grants, log."),
    "policy": ("strongroom.cli.policy", "app", "Appraisal policies: what evidence must say to be acceptable."),
    "verify": ("strongroom.cli.verify", "verify_app", "Say who is behind a TLS port, and why it is trusted or not."),
    "fetch-key": ("strongroom.cli.fetch_key", "fetch_key_app", "Fetch this room's key from a provisioning server."),
    "manifest": ("strongroom.cli.manifest", "app", "Gramine manifests, from workload definitions."),
    "tls": ("strongroom.cli.tls", "app", "TLS of a model server: certificates, ssl.cfg of TensorFlow Serving."),
    "platform": ("strongroom.cli.platform", "app", "Where evidence comes from: detect, simulate."),
    "loan": ("strongroom.cli.loan", "app", "The loan-default application."),
    "analytics": ("strongroom.cli.analytics", "app", "Encrypted tables and SQL over them."),
    "pipeline": ("strongroom.cli.pipeline", "app", "The Kubeflow pipeline: prepare, authorize, compile, run, submit."),
    "deploy": ("strongroom.cli.deploy", "app", "Kubernetes: manifests from a site file: render, validate, apply."),
    "azure": ("strongroom.cli.azure", "app", "Azure: an ARM template and the az commands around it."),
    "serve": ("strongroom.cli.serve", "app", "Serve models: TensorFlow Serving's API, attested."),
}

SHOW_TRACEBACK = "STRONGROOM_SHOW_TRACEBACK"


class LazyNouns(TyperGroup):
    """A command group whose members are imported when they are used, so that `--help` stays under 0.3 s."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The nouns in the order of the table."""
        return list(NOUNS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import one noun; None for an unknown one."""
        if cmd_name not in NOUNS:
            return None
        module, attribute, help_line = NOUNS[cmd_name]
        member = getattr(importlib.import_module(module), attribute)
        if not isinstance(member, typer.Typer):
            noun = typer.Typer(add_completion=False)
            noun.command(name=cmd_name, help=help_line)(member)
            member = noun
        command = typer.main.get_command(member)
        command.name = cmd_name
        command.help = command.help or help_line
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the nouns from the table, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(noun, help_line) for noun, (_, _, help_line) in NOUNS.items()])


app = typer.Typer(
    cls=LazyNouns,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Machine learning on clouds you do not trust: keys are released to attested code only.",
    epilog="Exit status: 0 ok, 2 usage, 3 malformed or not genuine, 4 refused by policy, 5 unavailable, 1 bug.",
)


def _print_version(value: bool) -> None:
    if value:
        print(f"strongroom {__version__}")  # noqa: T201
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the `strongroom` command.

    Raises:
        SystemExit: With the status of the table in `strongroom.outcome`.
    """
    try:
        status = app(standalone_mode=False, prog_name="strongroom")
    except StrongroomError as error:
        fail(error)
    except TyperException as error:
        fail(_wrong_usage(error))
    except Abort:
        raise SystemExit(130) from None
    except BrokenPipeError:
        # The reader of our stdout went away (`| head`): not an error of ours; keep Python's exit from complaining.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except OSError as error:
        # What the machine refuses where no command expected it: a full disk under stdout, a name that is too long.
        from strongroom.room.file_errors import file_error

        fail(file_error(error, error.filename or "standard output or input"))
    except Exception as error:
        if os.environ.get(SHOW_TRACEBACK):
            raise
        # A traceback may show data; the class name does not.
        fail(StrongroomError(f"a fault in Strongroom: {type(error).__name__}", code="bug", hint=f"{SHOW_TRACEBACK}=1"))
    raise SystemExit(status if isinstance(status, int) else OK)


def _wrong_usage(error: Exception) -> ConfigurationError:
    message = str(getattr(error, "format_message", lambda: error)())
    context = getattr(error, "ctx", None)
    hint = f"{context.command_path} --help" if context is not None else "strongroom --help"
    if context is not None and type(error).__name__ == "NoArgsIsHelpError":
        message = "which command?"
        print(context.get_help(), file=sys.stderr)  # noqa: T201
    return ConfigurationError(message, code="usage", hint=hint)


def noun_app(help_text: str) -> typer.Typer:
    """A typer application for one noun with the settings all of them share."""
    return typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        help=help_text,
    )


__all__ = ["app", "main", "noun_app"]

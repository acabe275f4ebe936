"""`strongroom analytics stage`: tables to and from an object store."""

from pathlib import Path
from typing import Annotated

import typer

from strongroom.cli.analytics_tables import Force
from strongroom.cli.main import noun_app
from strongroom.cli.owner import say
from strongroom.errors import ConfigurationError

app = noun_app("Tables in object stores.")


@app.command(
    help="Carry a table between a folder and an object store; it stays encrypted, and no key is needed.",
    epilog="Example: strongroom analytics stage abfs://lake@account.dfs.core.windows.net/tables/trips tables/trips",
)
def stage(
    source: Annotated[str, typer.Argument(metavar="DIR|URL", help="Where it is.", show_default=False)],
    target: Annotated[str, typer.Argument(metavar="URL|DIR", help="Where a copy goes.", show_default=False)],
    force: Force = False,
) -> None:
    """Carry a table between a folder and an object store.

    Raises:
        ConfigurationError: Not one folder and one address.
        StrongroomError: There is no table, or one in the way, or the store fails.
    """
    from strongroom.analytics.staging import download, open_store, upload

    if ("://" in source) == ("://" in target):
        raise ConfigurationError(
            "one of the two is a folder, the other an address", code="stage.url", hint="abfs://..., s3://..., gs://..."
        )
    if "://" in source:
        count = download(*open_store(source), Path(target))
    else:
        count = upload(Path(source), *open_store(target), overwrite=force)
    say(f"{count} files in {target}")

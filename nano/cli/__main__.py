"""`python -m nano.cli`, and the console script `nanoctl`."""

import sys

import typer

from nano.cli import admission, joining
from nano.cli.cells import cells
from nano.cli.commands import app
from nano.cli.pools import pools
from nano.model.errors import NanoError

app.add_typer(cells, name="cell")
app.add_typer(pools, name="pool")
app.add_typer(admission.tokens, name="token")
app.add_typer(admission.zone, name="zone")
app.command("join")(joining.join)


def main() -> None:
    try:
        app()
    except NanoError as error:
        typer.echo(f"nanoctl: {error.message}", err=True)
        sys.exit(1)
    except OSError as error:  # a file of the user's that cannot be read or written
        typer.echo(f"nanoctl: {error.filename or 'file'}: {error.strerror or error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()

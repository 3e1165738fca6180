"""`python -m ensemble.serve.streamlit_app http://127.0.0.1:8000`: a Streamlit page for a running service."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ensemble.core.errors import EnsError, require

PAGE = Path(__file__).with_name("streamlit_page.py")


@click.command()
@click.argument("address", metavar="URL", default="http://127.0.0.1:8000")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8501, show_default=True)
def main(address: str, host: str, port: int) -> None:
    """Show the service at URL with Streamlit. It asks the service alone and sends no statistics."""
    try:
        require("this page", "streamlit", "requests")
    except EnsError as error:
        click.echo(f"ens: {error}", err=True)
        sys.exit(error.exit_code)
    options = {
        "server.address": host,
        "server.port": port,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
    }
    arguments = [argument for name, value in options.items() for argument in (f"--{name}", str(value))]
    from streamlit.web.cli import main as streamlit

    # in this process, as a child process would go on after this one is terminated
    streamlit(["run", str(PAGE), *arguments, "--", address])


if __name__ == "__main__":
    main()

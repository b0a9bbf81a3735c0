"""The command ``any2all view``."""

from __future__ import annotations

from typing import Annotated

import typer


def view(
    patient: Annotated[
        str,
        typer.Argument(
            metavar="OUT | COHORT/PATIENT",
            help="Folder written by sample, COHORT/PATIENT, or a folder of NIfTI files",
        ),
    ],
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="TCP port on this machine; 0 takes a free one")
    ] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser")] = True,
) -> None:
    """Show a patient's images in the browser, with truth, error, spread and measurement.

    Only this machine can open the page, and only with the printed address. Ctrl-C stops it.
    """
    import signal

    from any2all_view.patient import open_patient
    from any2all_view.server import Server, open_browser

    server = Server(open_patient(patient), port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"{server.address}  (Ctrl-C ends it)", flush=True)
    if browser:
        open_browser(server.address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("view: ended", flush=True)
    finally:
        server.server_close()

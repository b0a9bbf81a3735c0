"""``any2all view``."""

from __future__ import annotations

from typing import Annotated

import typer


def view(
    patient: Annotated[
        str,
        typer.Argument(
            metavar="OUT | COHORT/PATIENT",
            help="Folder written by sample, a patient of a cohort, or a folder of NIfTI",
        ),
    ],
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one")
    ] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser, too")] = True,
) -> None:
    """Show a patient's images in the browser, with truth, error, spread and measurement.

    Only this machine can open the page, by its address alone. Ctrl-C ends it.
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

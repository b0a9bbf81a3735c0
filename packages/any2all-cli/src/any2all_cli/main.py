"""The entry point: commands, and how a mistake is told.

Heavy modules are imported inside the commands, so that --help answers at once.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

INTERRUPTED = 130
COMMANDS = "any2all.commands"

app = typer.Typer(
    name="any2all",
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fill in whatever images a patient lacks, from any mix of images and raw measurements.",
)


@app.command()
def train(
    data: Annotated[
        str,
        typer.Option(
            help="Cohort made by prepare, or folder of patients: DATA/<patient>/<modality>.nii.gz"
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder for the prior and its checkpoints")],
    validation: Annotated[
        Path | None,
        typer.Option(help="Folder of held-out patients [default: a tenth of DATA]"),
    ] = None,
    modalities: Annotated[
        str | None,
        typer.Option(help="Comma-separated, in order [default: all that every patient has]"),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="small (two cores), paper, or a TOML file like theirs [default: small; of a run "
            "that is resumed its own]"
        ),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change one of the recipe: NAME=VALUE")
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            help="Prior to begin with, of some of these modalities or other ones besides: a folder "
            "written by train, or an installed one"
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUTPUT")] = False,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16")] = "auto",
    incomplete: Annotated[
        bool,
        typer.Option(
            "--incomplete",
            help="Also train on patients who lack modalities; with levels=shared, once any2all "
            "fill has drawn what they lack",
        ),
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write curves and samples for TensorBoard")
    ] = False,
    shard: Annotated[
        bool,
        typer.Option("--shard", help="Share the weights out among the processes, too (FSDP)"),
    ] = False,
) -> None:
    """Train a prior on stacks of co-registered images.

    With accelerate launch -m any2all_cli train ..., or torchrun, on several processes.
    """
    from any2all_app.grammar import name_values
    from any2all_app.training import Training

    from any2all_cli.train import run

    training = Training(
        data=data,
        validation=validation,
        modalities=tuple(modalities.split(",")) if modalities else None,
        recipe=recipe,
        changes=name_values(set_ or [], "--set"),
        start_from=start_from,
        resume=resume,
        precision=precision,
        incomplete=incomplete,
        tensorboard=tensorboard,
        shard=shard,
    )
    run(training, output)


@app.command()
def prepare(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="[SOURCE] COHORT",
            help="SOURCE: folder of DICOM, of BIDS or of <patient>/*.nii.gz; COHORT: a new store, "
            "or one to append to; a path or a URL",
        ),
    ],
    modalities: Annotated[
        str | None, typer.Option(help="Comma-separated, in order [default: all that are found]")
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(help="TOML that maps series to modalities [default: built in]")
    ] = None,
    spacing: Annotated[
        str, typer.Option(help="Voxels in mm, x,y,z; or native: those of the reference")
    ] = "1.875,1.875,3",
    size: Annotated[
        str, typer.Option(help="Rows and columns of a slice, as 112,96; one number for a square")
    ] = "128",
    reference: Annotated[str, typer.Option(help="Others are registered to this modality")] = "T1",
    split: Annotated[
        str, typer.Option(help="train, val, test; auto (80:10:10 by hash); a JSON file")
    ] = "auto",
    salt: Annotated[
        Path | None,
        typer.Option(help="Secret that names are hashed with [default: COHORT.salt, made]"),
    ] = None,
    register: Annotated[
        bool, typer.Option(help="Register to the reference, or trust the scanner")
    ] = True,
    bias_correct: Annotated[bool, typer.Option("--bias-correct", help="N4 on MR images")] = False,
    trust_axes: Annotated[
        bool,
        typer.Option(
            "--trust-axes",
            help="Read NIfTI whose form codes are both 0: x, y, z run to the right, front and top",
        ),
    ] = False,
    by_session: Annotated[
        bool,
        typer.Option(
            "--by-session", help="Each session of a patient by itself [default: one joined stack]"
        ),
    ] = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Prepare anew who is there with other files or options"),
    ] = False,
    virtual: Annotated[
        int | None, typer.Option(help="Draw this many virtual people instead of a SOURCE")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the first virtual person")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes [default: one a core]")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, tcp://HOST:PORT")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show which series would be which modality")
    ] = False,
    show_names: Annotated[
        bool, typer.Option("--show-names", help="With --dry-run: identifying names as they are")
    ] = False,
) -> None:
    """Make a training-ready cohort of scans."""
    from any2all_cli.prepare import run

    if not run(
        paths,
        modalities,
        rules,
        spacing,
        size,
        reference,
        split,
        salt,
        register,
        bias_correct,
        by_session,
        replace,
        virtual,
        seed,
        workers,
        scheduler,
        dry_run,
        show_names,
        trust_axes,
    ):
        raise typer.Exit(1)


@app.command()
def cohort(
    url: Annotated[str, typer.Argument(metavar="COHORT", help="Made by any2all prepare")],
    qc: Annotated[
        Path | None, typer.Option(help="New folder for contact sheets and histograms")
    ] = None,
    accept: Annotated[
        list[str] | None, typer.Option(help="PATIENT:MODALITY that was set aside and is good")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table")] = False,
) -> None:
    """Show who is in a cohort and how well their images fit."""
    from any2all_cli.cohort import run

    run(url, qc, accept or [], json_)


@app.command()
def fill(
    url: Annotated[str, typer.Argument(metavar="COHORT", help="Made by any2all prepare")],
    prior: Annotated[
        str,
        typer.Option(
            help="Trained on those of its patients who lack nothing: folder, name, or hf:"
        ),
    ],
    sampler: Annotated[str, typer.Option(help="An installed sampler's name")] = "mds",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one of the sampler's options: NAME=VALUE"),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="A named setting of the sampler")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers")] = 0,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Draw anew what another prior, sampler or seed has drawn; not while it is "
            "trained on",
        ),
    ] = False,
    batch_size: Annotated[int, typer.Option(help="Slices per network call")] = 32,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16")] = "auto",
    device: Annotated[
        str, typer.Option(help="cpu, cuda:N, or auto: the GPU of this process, if it has one")
    ] = "auto",
) -> None:
    """Draw what training patients lack, for train --incomplete.

    Goes on where it was interrupted; patients are shared among the processes of torchrun.
    """
    from any2all_app.completion import NamedPrior
    from any2all_app.filling import Filling
    from any2all_app.grammar import name_values
    from any2all_core.reconstruct import make_sampler

    from any2all_cli.fill import run

    filling = Filling(
        NamedPrior.load(prior, precision, device),
        make_sampler(sampler, name_values(set_ or [], "--set"), preset),
        sampler,
        seed=seed,
        replace=replace,
        batch_size=batch_size,
    )
    run(url, filling)


@app.command()
def sample(
    prior: Annotated[
        str | None,
        typer.Option(
            help="Folder written by train, an installed prior's name, or hf:OWNER/NAME of the "
            "Hugging Face Hub [default: lgg; virtual without --input]"
        ),
    ] = None,
    input_: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="A patient: folder of NIfTI or DICOM, or COHORT/PATIENT; or many: COHORT, or the "
            "folder of theirs [default: the prior's example]",
        ),
    ] = None,
    modalities: Annotated[
        str | None,
        typer.Option(
            help="What is known: T1=clean,FLAIR=kspace:acceleration=4; others are missing "
            "[default: nothing, new stacks are drawn]"
        ),
    ] = None,
    sampler: Annotated[str, typer.Option(help="An installed sampler's name")] = "mds",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one of the sampler's options: NAME=VALUE"),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="A named setting of the sampler: paper is that of the paper")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="New folder for the results [default: any2all-out-N]")
    ] = None,
    draws: Annotated[int, typer.Option(help="Draws of each slice; mean and spread are kept")] = 1,
    through: Annotated[
        float,
        typer.Option(
            min=0, help="Mm through the slices over which what is invented goes on; 0: each apart"
        ),
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers")] = 0,
    slices: Annotated[
        str | None, typer.Option(help="FIRST:LAST, counted from the lowest [default: all]")
    ] = None,
    simulate: Annotated[
        bool,
        typer.Option("--simulate", help="Take image files as the truth, measure them virtually"),
    ] = False,
    trust_axes: Annotated[
        bool,
        typer.Option(
            "--trust-axes",
            help="Read NIfTI whose form codes are both 0: x, y, z run to the right, front and top",
        ),
    ] = False,
    dicom: Annotated[
        bool,
        typer.Option(
            "--dicom", help="Write derived DICOM series, too; they bear the patient's name"
        ),
    ] = False,
    dicom_from: Annotated[
        Path | None,
        typer.Option(
            help="With --dicom: the series in whose study and space they go [default: that of a "
            "DICOM --input]"
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Of a cohort: train, val or test [default: everybody]")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Of many: go on with the run in OUTPUT")
    ] = False,
    batch_size: Annotated[int, typer.Option(help="Slices per network call")] = 8,
    save_memory: Annotated[
        bool,
        typer.Option("--save-memory", help="With mps, mmps: recompute what gradients need; slower"),
    ] = False,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16")] = "auto",
    device: Annotated[
        str, typer.Option(help="cpu, cuda:N, or auto: the GPU of this process, if it has one")
    ] = "auto",
) -> None:
    """Fill in what a patient lacks, or draw new patients from nothing.

    Many patients are shared among the processes of torchrun -m any2all_cli sample ...
    """
    from any2all_cli.sample import run

    if not run(
        prior,
        input_,
        modalities,
        sampler,
        set_ or [],
        preset,
        output,
        draws,
        through,
        seed,
        slices,
        simulate,
        trust_axes,
        dicom,
        dicom_from,
        split,
        resume,
        batch_size,
        save_memory,
        precision,
        device,
    ):
        raise typer.Exit(1)


@app.command("import")
def import_(
    kind: Annotated[
        str, typer.Argument(help="guided-diffusion, diffusers, or a network plugin's name")
    ],
    source: Annotated[Path, typer.Argument(help="File of weights, or folder of a UNet2DModel")],
    output: Annotated[Path, typer.Option(help="New folder for the prior")],
    modalities: Annotated[str, typer.Option(help="Comma-separated, in the order of its channels")],
    image_size: Annotated[
        str | None, typer.Option(help="Rows,columns [default: as the source says]")
    ] = None,
    prediction: Annotated[
        str | None,
        typer.Option(help="epsilon, v or sample [default: as the source says, or epsilon]"),
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help="cosine or linear [default: as the source says]")
    ] = None,
    diffusion_steps: Annotated[int, typer.Option(min=2, help="T of its training")] = 1000,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="guided-diffusion: num_head_channels=N, num_heads=N, use_new_attention_order=true",
        ),
    ] = None,
) -> None:
    """Make a prior of weights that were trained elsewhere."""
    from any2all_cli.importing import run

    run(
        kind,
        source,
        output,
        modalities,
        image_size,
        prediction,  # type: ignore[arg-type]
        schedule,  # type: ignore[arg-type]
        diffusion_steps,
        set_ or [],
    )


@app.command()
def plugins(
    name: Annotated[
        str | None, typer.Argument(help="Tell the options of this one [default: list all]")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Load and test each; exit 1 if one fails")
    ] = False,
) -> None:
    """List the installed operators, samplers and priors, tell of one, or test them."""
    from any2all_cli.plugins import run

    if not run(name, json_, check):
        raise typer.Exit(1)


def add_installed_commands() -> None:
    """Commands that other packages bring through the entry-point group any2all.commands."""
    there = {c.name or getattr(c.callback, "__name__", "") for c in app.registered_commands}
    for entry in sorted(entry_points(group=COMMANDS), key=lambda e: e.name):
        if entry.name in there:
            continue
        try:
            app.command(entry.name)(entry.load())
        except Exception as error:
            name = entry.dist.name if entry.dist else entry.value
            print(f"any2all: command {entry.name} of {name} is left out: {error}", file=sys.stderr)


def main() -> None:
    """Run a command; a user's mistake becomes one line on stderr and exit status 2."""
    add_installed_commands()
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="any2all", standalone_mode=False)
        if code == INTERRUPTED:
            print("any2all: interrupted", file=sys.stderr)
        sys.exit(code)
    except OSError as error:
        print(f"any2all: {error}", file=sys.stderr)
        mistakes = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError)
        sys.exit(2 if isinstance(error, (*mistakes, PermissionError)) else 1)
    except Exception as error:
        if hasattr(error, "format_message"):  # Typer's: the command line cannot be read
            said = f"{error.format_message().rstrip('.')}; see any2all [COMMAND] --help"
        elif type(error).__name__ == "UserError":
            said = str(error)
        else:
            raise
        print(f"any2all: {said}", file=sys.stderr)
        sys.exit(2)

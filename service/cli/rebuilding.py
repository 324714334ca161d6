"""`ledger rebuild`: a read model made anew from the record."""

from typing import Annotated

import typer

from projections.registry import READ_MODELS
from projections.versions import FillProgress, RebuildError, rebuild
from service.cli.output import CliError, ExitCode
from service.cli.session import JsonOption, Session, run


def rebuild_command(
    read_models: Annotated[
        list[str] | None, typer.Argument(help="Their names. Not given: all.", show_default=False)
    ] = None,
    after_restore: Annotated[
        bool,
        typer.Option(
            "--after-restore",
            help="The database was restored from an older copy: read models that are ahead of it go back.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make read models anew from the record, beside the ones in use, and swap them in. Reads go on all the time."""
    run(as_json, lambda session: _rebuild(session, read_models or [], after_restore))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("rebuild")(rebuild_command)


async def _rebuild(session: Session, names: list[str], after_restore: bool) -> ExitCode:
    known = {model.name: model for model in READ_MODELS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise CliError(ExitCode.USAGE, f"there is no read model {', '.join(unknown)}", f"there are {', '.join(known)}")
    made: list[FillProgress] = []
    with session.output.progress("events") as bars:
        for name in names or known:
            task = bars.add_task(name, total=None, rate="")

            def show(progress: FillProgress, task: int = task) -> None:
                rate = progress.filled / max(progress.elapsed_s, 0.001)
                bars.update(task, completed=progress.filled, total=progress.total, rate=f"{rate:,.0f}/s")  # type: ignore[arg-type]

            try:
                made.append(
                    await rebuild(session.addresses.database("owner"), known[name], show, after_restore=after_restore)
                )
            except RebuildError as error:
                raise CliError(ExitCode.NO, f"{name} was not rebuilt: {error}") from error
    session.output.result(
        [
            {
                "read_model": one.read_model,
                "version": one.version,
                "events": one.filled,
                "elapsed_s": round(one.elapsed_s, 3),
            }
            for one in made
        ],
        "\n".join(
            f"{one.read_model}: version {one.version} in use, {one.filled:,} events in {one.elapsed_s:.1f} s"
            for one in made
        ),
    )
    return ExitCode.OK

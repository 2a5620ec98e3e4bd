"""Where an exported model lies, for commands that take a run's folder as well as the `model/` in it."""

from pathlib import Path

from fednano.training.checkpoint import CONFIG, MODEL, TOKENIZER

NAME = "model"  # of the folder in a run's
RUN_FILES = ("events.jsonl", "summary.json")


def model_folder(named: Path) -> Path:
    """The exported model that `model_dir` names: `named` itself, or `model/` in it.

    Raises ValueError, with what is there instead, if neither holds any file of a model.
    """
    for folder in (named, named / NAME):
        if any((folder / name).is_file() for name in (MODEL, CONFIG, TOKENIZER)):
            return folder
    raise ValueError(f"model_dir must be the folder of a run, or the {NAME}/ in it, got {named}, {_instead(named)}")


def _instead(named: Path) -> str:
    if not named.is_dir():
        return f"which {'is a file' if named.exists() else 'does not exist'}; name the folder that the run printed"
    if any((named / name).is_file() for name in RUN_FILES):
        return (
            f"a run without {NAME}/: it has not ended, or computed no steps; continue it by "
            f"python -m fednano.run resume={named}, or name another"
        )
    jobs = sorted(folder.parent.name for folder in named.glob(f"*/{NAME}") if folder.is_dir())
    if jobs:
        return f"which holds several runs; name one of them, such as {named / jobs[0]}"
    return "which holds no model; name the folder that the run printed"

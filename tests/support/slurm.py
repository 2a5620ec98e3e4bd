"""A SLURM cluster on this machine: the programs that submitit calls, which run a job array at once."""

import sys
from pathlib import Path

PROGRAMS = {
    "sbatch": """
        cp "$1" {place}/submitted.sh
        for task in 0 1; do {place}/scontrol requeue 7_$task; done
        echo Submitted batch job 7""",
    "scontrol": """
        export SLURM_JOB_ID=7 SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=${{2#*_}}
        echo "$*" >> {place}/started
        nohup bash {place}/submitted.sh >> {place}/output 2>&1 < /dev/null &""",
    "srun": """
        while [ "$1" != {python} ]; do shift; done
        exec "$@" """,
    "sacct": "true",
}


def install(place: Path) -> Path:
    """Put the programs into the folder `place`, which then has to be on PATH; returns it."""
    place.mkdir()
    for name, text in PROGRAMS.items():
        lines = [line.strip() for line in text.format(place=place, python=sys.executable).strip().splitlines()]
        (place / name).write_text("\n".join(["#!/bin/bash", *lines, ""]))
        (place / name).chmod(0o755)
    return place

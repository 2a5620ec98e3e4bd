"""Runs in a notebook: experiments started from it, and the files of run folders as pandas tables.

import fednano

runs = fednano.sweep(["strategy=diloco,fedavg", "seed=1,2", "rounds=4"])
runs.evaluations.pivot(index="tokens", columns=["strategy", "seed"], values="val_bpb").plot()
"""

from fednano.notebook.launching import fit, sweep
from fednano.notebook.loading import LoadedRun, LoadedRuns, load_run, load_runs

__all__ = ["LoadedRun", "LoadedRuns", "fit", "load_run", "load_runs", "sweep"]

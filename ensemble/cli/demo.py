"""`ens demo`."""

from __future__ import annotations

import click

from ensemble.cli.terminal import Settings

DEMO = {
    "members": [
        {"arch": "vgg19_bn", "epochs": 6, "lr": 0.001},
        {"arch": "resnet34", "epochs": 10, "lr": 0.003, "dropout": 0.2},
        {"arch": "densenet121", "epochs": 12, "lr": 0.005},
        {"arch": "efficientnet_b0", "epochs": 15, "lr": 0.01, "dropout": 0.2},
    ],
    "combine": {"threshold": 0.95},
}
"""The recipe of `ens demo`, with fixed learning rates, so that no finder runs. It is part of the package because
wheels contain no recipes; recipes/digits.yaml is equal, which a test checks."""


@click.command()
@click.option("--seed", type=int, default=0, show_default=True, help="The training seed.")
@click.option("--device", help="cpu, cuda, cuda:1, mps. [default: the best there is]")
@click.option("--json", "as_json", is_flag=True, help="Print what was made as one JSON object.")
@click.option(
    "--report/--no-report", default=True, help="Write the page of `ens report` at the end. [default: report]"
)
@click.pass_obj
def command(settings: Settings, seed: int, device: str | None, as_json: bool, report: bool) -> None:
    """Run the whole pipeline on scikit-learn's digits: train four networks, combine, submit. No network needed.

    \b
    ens demo
    """
    from ensemble.api.project import Project
    from ensemble.cli.run import run_pipeline

    project = Project(DEMO, runs=settings.runs, device=device, seed=seed)
    run_pipeline(project, as_json=as_json, report=report)

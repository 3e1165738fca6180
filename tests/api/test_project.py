"""`Project`: each method gives what the command of its name prints, and raises what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.commands import as_json, printed_json
from helpers.fake_runs import CLASSES, predictions
from helpers.listeners import Noted

import ensemble as ens
from ensemble.cli import run as command

NAMES = ["resnet18-aaaaaaaa", "vgg11-bbbbbbbb", "alexnet-cccccccc"]


def test_project_ls(project: ens.Project, capfd: pytest.CaptureFixture[str]) -> None:
    assert printed_json(capfd, "ls") == as_json(project.runs().facts())
    assert list(project.runs().frame().index) == [row.id for row in project.runs()]
    assert len(project.runs()) == 3
    assert project.runs()[0].id in repr(project.runs())


def test_project_combine_submit_and_compare(project: ens.Project, capfd: pytest.CaptureFixture[str]) -> None:
    best = project.combine(NAMES, threshold=0.5, rule="log-odds")
    facts = printed_json(capfd, "combine", *NAMES, "--threshold", "0.5", "--rule", "log-odds")
    from ensemble.api.combining import facts_of

    assert facts == as_json(facts_of(best))
    assert best.id == facts["run"]
    assert best.weights == {row["id"]: row["weight"] for row in facts["members"] if row["kept"]}
    score = facts["scores"][0]
    assert best.honest == ens.Estimate(score["honest"], score["low"], score["high"])
    assert (best.apparent, best.metric) == (score["apparent"], "accuracy")

    written = project.submit(best)
    assert printed_json(capfd, "submit", best.id) == as_json(written.facts())
    assert written.path.read_text().startswith("id,label\n")

    compared = project.compare(NAMES[:2], figures=False)
    assert printed_json(capfd, "compare", *NAMES[:2], "--no-figures") == as_json(compared.facts())
    assert len(compared.frame()) == 2


def test_project_report(project: ens.Project, capfd: pytest.CaptureFixture[str]) -> None:
    best = project.combine(NAMES)
    report = project.report(best, explain=False)
    assert printed_json(capfd, "report", best.id, "--no-explain") == as_json(report.facts())
    assert report.path.read_text().startswith("<!doctype html>")


def test_project_import(project: ens.Project, capfd: pytest.CaptureFixture[str]) -> None:
    rows = predictions(60, 9)
    lines = [f"{name},{','.join(map(str, probs))}" for name, probs in zip(rows.ids, rows.probs, strict=True)]
    Path("swin.csv").write_text("\n".join([f"id,{','.join(CLASSES)}", *lines]) + "\n")
    model = project.import_run("swin", valid="swin.csv", arch="swin_t")
    facts = printed_json(capfd, "import", "swin", "--valid", "swin.csv", "--arch", "swin_t")
    assert facts == as_json({"run": model.id, **model.metrics})
    assert (model.kind, model.run.arch) == ("import", "swin_t")
    assert model.predictions().targets is not None


def test_project_check_and_kinds_of_source(photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quiet = ens.Listener()
    result = ens.Project("photos", listener=quiet).check(pictures=2)
    facts = printed_json(capfd, "check", "--data", "photos", "--pictures", "2")
    assert facts == as_json(result.facts())
    assert result.page.is_file()
    Path("recipe.yaml").write_text("data: {form: folders, path: photos, valid: valid, test: test}\n")
    mapping = {"data": {"form": "folders", "path": "photos", "valid": "valid", "test": "test"}}
    sources: list[Any] = ["photos", Path("photos"), "recipe.yaml", mapping]
    prints = {ens.Project(source, listener=quiet).dataset.fingerprint for source in sources}
    assert len(prints) == 1
    other = ens.Project("photos", listener=quiet, data={"split_seed": 3, "valid": 0.5})
    assert other.recipe().data.split_seed == 3
    assert other.dataset.fingerprint not in prints


def test_project_loads_its_data_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ensemble.data import load

    count = []
    original = load.load_dataset
    monkeypatch.setattr(
        load, "load_dataset", lambda *args, **options: (count.append(1), original(*args, **options))[1]
    )
    project = ens.Project("photos", listener=ens.Listener())
    assert project.dataset is project.dataset
    assert project.load(project.recipe().data) is project.dataset
    assert len(count) == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda project: project.train(["customnet"], epoch=1),
            ["train", "--arch", "customnet", "--set", "epoch=1"],
        ),
        (lambda project: project.train(["resnet19x"]), ["train", "--arch", "resnet19x"]),
        (lambda project: project.train(), ["train"]),
        (lambda project: project.run("nothing"), ["submit", "nothing"]),
        (lambda project: project.combine(NAMES, rule="best"), ["combine", *NAMES, "--rule", "best"]),
        (lambda project: project.combine(NAMES[:1] * 2), ["combine", *NAMES[:1] * 2]),
        (
            lambda project: project.combine(NAMES, threshold=0.999, per_arch=0),
            ["combine", *NAMES, "--threshold", "0.999", "--per-arch", "0"],
        ),
        (lambda project: project.submit(NAMES[0], format="csv"), ["submit", NAMES[0], "--format", "csv"]),
        (lambda project: project.sweep(), ["sweep"]),
        (lambda project: ens.Project("nowhere"), ["check", "--data", "nowhere"]),
        (lambda project: project.train(["customnet"], budget="soon"), None),
        (lambda project: project.combine([]), None),
        (lambda project: project.combine(treshold=1), None),
        (lambda project: ens.Project(epochz=1), None),
        (lambda project: ens.Project({"dta": {}}), None),
        (lambda project: ens.Project(track="wandb"), None),
        (lambda project: ens.Project(track_weights=True), None),
    ],
)
def test_project_raises_what_the_command_prints(
    project: ens.Project, capfd: pytest.CaptureFixture[str], call: Any, words: list[str] | None
) -> None:
    with pytest.raises(ens.EnsError) as caught:
        call(project)
    assert len(str(caught.value).splitlines()) == 1
    if words is not None:
        assert command(words) == caught.value.exit_code
        assert capfd.readouterr().err.splitlines()[-1] == f"ens: {caught.value}"


def test_two_projects_share_no_run(here: Path) -> None:
    from ensemble.runs.run import locked

    project = ens.Project(runs="runs", listener=ens.Listener())
    planned = project.plan(["customnet"], epochs=1, lr=0.01).runs
    with (
        locked(Path("runs"), planned[0].id),
        pytest.raises(ens.MembersFailed, match="is in use by process") as caught,
    ):
        project.train(["customnet"], epochs=1, lr=0.01)
    assert caught.value.exit_code == ens.RunLocked.exit_code
    assert len(caught.value.members) == 0


def test_project_notes_reach_the_listener_only(project: ens.Project, capfd: pytest.CaptureFixture[str]) -> None:
    notes: list[str] = []
    noted = ens.Project(runs="runs", listener=Noted(notes))
    noted.combine(NAMES)
    noted.submit(noted.combine(NAMES))
    assert any("expect accuracy" in line for line in notes)
    assert capfd.readouterr() == ("", "")

"""The Python interface: what it promises, and that each command prints what it gives."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_runs import CLASSES, member, predictions, run
from hypothesis import given
from hypothesis import strategies as st
from listeners import Noted
from PIL import Image

import ensemble as ens
from ensemble.cli import run as command
from ensemble.combine.rules import rules
from ensemble.core.events import Bars, default_listener


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def project(home: Path) -> ens.Project:
    """Three members of the data that the newest run is of."""
    folder = Path("runs")
    for name, seed in (("resnet18-aaaaaaaa", 1), ("vgg11-bbbbbbbb", 2), ("alexnet-cccccccc", 3)):
        member(folder, name, seed)
    return ens.Project(runs=folder, listener=ens.Listener())


NAMES = ["resnet18-aaaaaaaa", "vgg11-bbbbbbbb", "alexnet-cccccccc"]


def printed(capfd: pytest.CaptureFixture[str], *words: str) -> Any:
    """What a command prints with --json."""
    capfd.readouterr()
    assert command([*words, "--json"]) == 0
    return json.loads(capfd.readouterr().out)


def plain(value: Any) -> Any:
    """As JSON has it: null for numbers that are not finite, lists for tuples."""
    from ensemble.cli.terminal import as_json_text

    return json.loads(as_json_text(value))


# ---- what is public ----


def test_every_public_name_is_there_documented_and_in_dir() -> None:
    assert sorted(set(ens.__all__)) == sorted(ens.__all__)
    for name in ens.__all__:
        value = getattr(ens, name)
        assert name in dir(ens)
        if name != "__version__":
            assert inspect.getdoc(value), name
            methods = [part for key, part in vars(value).items() if inspect.isfunction(part) and key[0] != "_"]
            assert all(map(inspect.getdoc, methods)), name
    with pytest.raises(AttributeError, match="no attribute 'project'"):
        _ = ens.project  # type: ignore[attr-defined]


def test_the_public_names_are_these() -> None:
    """Who removes or renames one breaks the notebooks of others."""
    errors = {name for name in ens.__all__ if isinstance(getattr(ens, name), type)}
    errors = {name for name in errors if issubclass(getattr(ens, name), Exception)}
    assert {"DataError", "RecipeError", "MembersFailed", "MismatchedRuns", "NothingPassed"} <= errors
    assert set(ens.__all__) - errors == {
        *("Bars", "Combiner", "Ensemble", "Estimate", "Leaderboard", "Lines", "Listener", "Members", "Model"),
        *("PredictedImages", "Predictions", "Project", "Table", "__version__"),
    }


def test_the_import_loads_no_library_and_the_project_no_torch(home: Path) -> None:
    code = (
        "import sys, ensemble as ens\n"
        "assert not {'numpy', 'torch', 'pandas', 'sklearn', 'pydantic', 'click'} & set(sys.modules)\n"
        "ens.Project(listener=ens.Listener()).runs()\n"
        "assert not {'torch', 'fastai', 'timm', 'sklearn'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_api_neither_prints_nor_exits() -> None:
    for path in (Path(ens.__file__).parent / "api").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\bprint\(|sys\.exit|import click|sys\.stdout", text), path


# ---- each command prints what the project gives ----


def test_ls(project: ens.Project, capfd: pytest.CaptureFixture[str]) -> None:
    assert printed(capfd, "ls") == plain(project.runs().facts())
    assert list(project.runs().frame().index) == [row.id for row in project.runs()]
    assert len(project.runs()) == 3
    assert project.runs()[0].id in repr(project.runs())


def test_combine_submit_and_compare(project: ens.Project, capfd: pytest.CaptureFixture[str]) -> None:
    best = project.combine(NAMES, threshold=0.5, rule="log-odds")
    facts = printed(capfd, "combine", *NAMES, "--threshold", "0.5", "--rule", "log-odds")
    from ensemble.api.combining import facts_of

    assert facts == plain(facts_of(best))
    assert best.id == facts["run"]
    assert best.weights == {row["id"]: row["weight"] for row in facts["members"] if row["kept"]}
    score = facts["scores"][0]
    assert best.honest == ens.Estimate(score["honest"], score["low"], score["high"])
    assert (best.apparent, best.metric) == (score["apparent"], "accuracy")

    written = project.submit(best)
    assert printed(capfd, "submit", best.id) == plain(written.facts())
    assert written.path.read_text().startswith("id,label\n")

    compared = project.compare(NAMES[:2], figures=False)
    assert printed(capfd, "compare", *NAMES[:2], "--no-figures") == plain(compared.facts())
    assert len(compared.frame()) == 2


def test_report(project: ens.Project, capfd: pytest.CaptureFixture[str]) -> None:
    best = project.combine(NAMES)
    report = project.report(best, explain=False)
    assert printed(capfd, "report", best.id, "--no-explain") == plain(report.facts())
    assert report.path.read_text().startswith("<!doctype html>")


def test_import(project: ens.Project, capfd: pytest.CaptureFixture[str]) -> None:
    rows = predictions(60, 9)
    lines = [f"{name},{','.join(map(str, probs))}" for name, probs in zip(rows.ids, rows.probs, strict=True)]
    Path("swin.csv").write_text("\n".join([f"id,{','.join(CLASSES)}", *lines]) + "\n")
    model = project.import_run("swin", valid="swin.csv", arch="swin_t")
    facts = printed(capfd, "import", "swin", "--valid", "swin.csv", "--arch", "swin_t")
    assert facts == plain({"run": model.id, **model.metrics})
    assert (model.kind, model.run.arch) == ("import", "swin_t")
    assert model.predictions().targets is not None


@pytest.fixture
def photos(home: Path) -> Path:
    draw = np.random.default_rng(0)
    for split, count in (("train", 8), ("valid", 4), ("test", 3)):
        for name in ("light", "dark"):
            folder = home / "photos" / split / ("" if split == "test" else name)
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                pixels = draw.integers(0, 100, (12, 12, 3)) + (150 if name == "light" else 0)
                Image.fromarray(pixels.astype(np.uint8)).save(
                    folder / f"{name}{number}{'-v' if split == 'valid' else ''}.png"
                )
    return home / "photos"


def test_check_and_the_ways_to_name_a_source(photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quiet = ens.Listener()
    result = ens.Project("photos", listener=quiet).check(pictures=2)
    facts = printed(capfd, "check", "--data", "photos", "--pictures", "2")
    assert facts == plain(result.facts())
    assert result.page.is_file()
    Path("recipe.yaml").write_text("data: {form: folders, path: photos, valid: valid, test: test}\n")
    mapping = {"data": {"form": "folders", "path": "photos", "valid": "valid", "test": "test"}}
    sources: list[Any] = ["photos", Path("photos"), "recipe.yaml", mapping]
    prints = {ens.Project(source, listener=quiet).dataset.fingerprint for source in sources}
    assert len(prints) == 1
    other = ens.Project("photos", listener=quiet, data={"split_seed": 3, "valid": 0.5})
    assert other.recipe().data.split_seed == 3
    assert other.dataset.fingerprint not in prints


def test_the_data_set_is_loaded_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


# ---- mistakes ----


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
def test_a_mistake_raises_what_the_command_line_says(
    project: ens.Project, capfd: pytest.CaptureFixture[str], call: Any, words: list[str] | None
) -> None:
    with pytest.raises(ens.EnsError) as caught:
        call(project)
    assert len(str(caught.value).splitlines()) == 1
    if words is not None:
        assert command(words) == caught.value.exit_code
        assert capfd.readouterr().err.splitlines()[-1] == f"ens: {caught.value}"


def test_two_projects_on_one_run_at_a_time(home: Path) -> None:
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


# ---- what comes back shows itself ----


def test_estimates_print_as_people_write_them() -> None:
    assert str(ens.Estimate(0.9512, 0.9441, 0.9567)) == "0.9512 (95 % interval 0.9441 to 0.9567)"
    assert str(ens.Estimate(0.5)) == "0.5000"
    assert float(ens.Estimate(0.25)) == 0.25
    assert repr(ens.Estimate(0.5, 0.25, None)) == "Estimate(value=0.5000, low=0.2500, high=None)"


def test_notebooks_get_html_that_is_escaped_and_has_no_script(home: Path) -> None:
    folder = Path("runs")
    classes = ["<b>ant</b>", "bee", "cat"]
    runs = [
        run(folder, f"net-{seed}{'a' * 7}", {"valid": predictions(60, seed, classes=classes)}) for seed in (1, 2)
    ]
    project = ens.Project(runs=folder, listener=ens.Listener())
    best = project.combine([entry.id for entry in runs], name="both")
    for value in (
        best,
        project.run(runs[0].id),
        project.runs(),
        project.compare([entry.id for entry in runs], figures=False),
    ):
        html = value._repr_html_()
        assert "prefers-color-scheme: dark" in html
        assert "<script" not in html
        assert "<b>ant</b>" not in html
        assert repr(value)


def test_tables() -> None:
    table = ens.Table(("name", "value"), [("a", 0.5), ("b", None)])
    assert table.text() == "name   value\na     0.5000\nb"
    assert table.records() == [{"name": "a", "value": 0.5}, {"name": "b", "value": None}]
    assert table.frame().shape == (2, 2)


# ---- listeners ----


def test_notes_reach_the_listener_and_nothing_else(project: ens.Project, capfd: pytest.CaptureFixture[str]) -> None:
    notes: list[str] = []
    noted = ens.Project(runs="runs", listener=Noted(notes))
    noted.combine(NAMES)
    noted.submit(noted.combine(NAMES))
    assert any("expect accuracy" in line for line in notes)
    assert capfd.readouterr() == ("", "")


def test_listeners_nest_and_travel_to_other_processes(capfd: pytest.CaptureFixture[str]) -> None:
    bars = Bars()
    with bars, bars:
        bars.progress("task [a]", 1, 2)
        bars.note("a [note]")
        bars.finished("task [a]")
    bars.note("after")
    assert capfd.readouterr().err.splitlines()[-1] == "after"
    for listener in (ens.Listener(), ens.Lines(), bars.without_bars()):
        assert type(pickle.loads(pickle.dumps(listener))) is type(listener)
    lines = default_listener()
    lines.note_once("once")
    lines.note_once("once")
    lines.epoch("run", "line")
    assert capfd.readouterr().err == "once\nrun  line\n"


# ---- arrays alone ----


@st.composite
def stacks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    m, n, k = draw(st.integers(1, 4)), draw(st.integers(8, 30)), draw(st.integers(2, 4))
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    targets = random.integers(0, k, n)
    probs = random.random((m, n, k)) + np.eye(k)[targets]
    return probs / probs.sum(axis=2, keepdims=True), targets


@given(stacks(), st.sampled_from([name for name in rules.names() if name != "auto"]))
def test_a_combiner_gives_what_its_rule_gives(stack: tuple[np.ndarray, np.ndarray], name: str) -> None:
    probs, targets = stack
    combiner = ens.Combiner(rule=name, calibrate=False).fit(probs, targets)
    rule = rules.get(name)
    expected = rule.apply(rule.fit(probs, targets), probs)
    assert np.array_equal(combiner.predict_proba(probs), expected)
    assert np.array_equal(combiner.predict(probs), expected.argmax(axis=1))
    assert np.allclose(combiner.predict_proba(probs).sum(axis=1), 1)
    # row by row
    assert np.array_equal(combiner.predict_proba(probs[:, :1]), expected[:1])


def test_a_combiner_is_a_scikit_learn_estimator() -> None:
    from sklearn.base import clone

    combiner = clone(ens.Combiner(rule="greedy", metric="log_loss"))
    assert combiner.get_params() == {"rule": "greedy", "metric": "log_loss", "calibrate": None}
    probs = np.array([[[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]], [[0.6, 0.4], [0.2, 0.8], [0.5, 0.5]]])
    combiner.fit(probs, [0, 1, -1])  # the third is not known
    assert combiner.weights_ is not None
    assert combiner.weights_.sum() == pytest.approx(1)
    assert combiner.score(probs, [0, 1, -1]) == 1.0
    with pytest.raises(ValueError, match="unknown parameter 'rul'"):
        combiner.set_params(rul="x")


@pytest.mark.parametrize(
    ("probs", "y", "message"),
    [
        (np.ones((2, 3)), [0, 1, 0], "expected"),
        (np.ones((2, 3, 2)), [0, 1, 0], "not probabilities"),
        (np.full((2, 3, 2), 0.5), [0, 1], r"integers \(3,\) expected"),
        (np.full((2, 3, 2), 0.5), [0, 1, 2], "outside -1 to 1"),
        (np.full((2, 3, 2), 0.5), [-1, -1, -1], "no known target"),
        (np.full((2, 3, 2), np.nan), [0, 1, 0], "not probabilities"),
        (np.full((2, 3, 2), 0.5), [0.0, 1.0, 0.0], "integers"),
    ],
)
def test_a_combiner_refuses(probs: np.ndarray, y: Any, message: str) -> None:
    with pytest.raises(ens.DataError, match=message):
        ens.Combiner().fit(probs, y)


def test_a_combiner_refuses_other_members_and_to_predict_before_it_is_fitted() -> None:
    probs = np.full((2, 3, 2), 0.5)
    with pytest.raises(ens.DataError, match="not fitted"):
        ens.Combiner().predict(probs)
    combiner = ens.Combiner().fit(probs, [0, 1, 0])
    with pytest.raises(ens.DataError, match="1 members and 2 classes, 2 and 2 expected"):
        combiner.predict(probs[:1])


# ---- with networks ----


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the data sets that are loaded, in whatever module."""
    from ensemble.data import load
    from ensemble.report.sections import mistakes, scope

    paths: list[str] = []
    original = load.load_dataset

    def counted(spec: Any, *args: Any, **options: Any) -> Any:
        paths.append(spec.path)
        return original(spec, *args, **options)

    for module in (load, mistakes, scope):
        monkeypatch.setattr(module, "load_dataset", counted)
    return paths


@pytest.mark.slow
def test_a_pipeline_loads_the_data_once(photos: Path, loads: list[str]) -> None:
    recipe = {
        "data": {"form": "folders", "path": "photos", "valid": "valid", "test": "test"},
        "defaults": {"weights": "none", "image_size": 16, "epochs": 1, "lr": 0.01, "filters": [4, 8], "dense": [8]},
        "members": [{"arch": "customnet", "seeds": [0, 1]}],
        "combine": {"refits": True},
    }
    created = ens.Project(recipe, listener=ens.Listener(), batch_size=4).pipeline()
    assert loads == ["photos"]
    assert len(created.members) == 2
    assert created.refits is not None and len(created.refits) == 2
    assert created.submission is not None and created.submission.path.is_file()
    assert created.report is not None and created.report.is_file()
    assert len(created.leaderboard) == 6  # two members, two refits, the ensemble before and after these


@pytest.mark.slow
def test_an_explanation_loads_the_data_once_and_predictions_take_any_kind_of_image(
    photos: Path, loads: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    keys = {"image_size": 16, "epochs": 1, "lr": 0.01, "weights": "none", "batch_size": 4}
    project = ens.Project("photos", listener=ens.Listener(), filters=[4, 8], dense=[8], **keys)
    (model,) = project.train("customnet")
    loads.clear()
    names = [f"{name}/{name}{number}" for name in ("light", "dark") for number in range(3)]
    explained = ens.Project("photos", listener=ens.Listener()).run(model.id).explain(names)
    assert len(loads) == 1
    assert explained.picture.read_bytes()[:4] == b"\x89PNG"
    assert printed(capfd, "explain", model.id, *names) == plain(explained.facts())
    paths = [Path(f"photos/test/light{number}.png") for number in range(3)]
    assert (
        model.run.record.values["parameters"] < 2_000
    )  # the project's own keys, filters among them, are the member's
    assert model.predict([paths[0], paths[0]]).names == (str(paths[0]), str(paths[0]))
    by_path = model.predict(paths, uncertain=True)
    pictures = [Image.open(path) for path in paths]
    by_pixels = model.predict([pictures[0], *(np.asarray(picture) for picture in pictures[1:])])
    assert np.array_equal(by_path.probs, by_pixels.probs)
    assert by_path.entropy is not None and len(by_path) == 3
    assert list(by_path.frame()["label"]) == by_path.labels
    assert capfd.readouterr().err == ""
    command(["predict", model.id, *map(str, paths)])
    rows = capfd.readouterr().out.splitlines()
    assert [row.split(",")[1] for row in rows[1:]] == by_path.labels

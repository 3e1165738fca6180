"""The model card: description, scores, and limitations of use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ensemble.core.errors import abbreviated
from ensemble.export.model_facts import ModelFacts
from ensemble.runs.leaderboard import LIMITS, NOT_MEDICAL


def model_card(facts: ModelFacts, config: Mapping[str, Any]) -> str:
    """README.md with the front matter of Hugging Face's model cards. config: the content of config.json."""
    parts = [
        f"---\n{_front_matter(facts, config).to_yaml()}\n---",
        f"# {facts.run}",
        *(["**{}** {}".format(*NOT_MEDICAL)] if facts.medical else []),
        "## Model description",
        f"Tells images of {len(facts.classes)} classes apart: {abbreviated(facts.classes, 20)}.",
        _members_table(facts, config),
        "## Intended uses and limitations",
        LIMITS,
        "## How to use",
        _usage(facts, config),
        "## Training data",
        _training_data(config),
        "## Evaluation results",
        _evaluation(facts, config),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(facts: ModelFacts, config: Mapping[str, Any]) -> ModelCardData:
    score = facts.score
    results = score and [
        EvalResult(
            task_type="image-classification",
            dataset_type="imagefolder",
            dataset_name=f"validation rows, fingerprint {config['fingerprint'][:12]}",
            dataset_split="validation",
            metric_type=score.metric,
            metric_name=f"{score.metric} ({'honest' if facts.rule else 'validation'})",
            metric_value=round(score.value, 6),
        )
    ]
    return ModelCardData(
        model_name=facts.run,
        library_name="onnx",
        pipeline_tag="image-classification",
        tags=["image-classification", "onnx", "ensemble", *(["not-a-medical-device"] if facts.medical else [])],
        eval_results=results or None,
    )


def _evaluation(facts: ModelFacts, config: Mapping[str, Any]) -> str:
    if facts.score is None:
        return "Nobody knows: no validation row has a label."
    independence = (
        "Selection, weights and calibration were made without the rows that they are scored on."
        if facts.rule
        else "The network has not learnt from these rows."
    )
    choices = config["chosen_on_valid"]
    selection_note = (
        f" Chosen on the same rows before, which the score does not cover: {', '.join(choices)}." if choices else ""
    )
    return f"{str(facts.score)[0].upper()}{str(facts.score)[1:]}. {independence}{selection_note}"


def _usage(facts: ModelFacts, config: Mapping[str, Any]) -> str:
    return (
        "```sh\npython -m pip install onnxruntime numpy pillow\npython predict.py image.jpg another.png\n```\n\n"
        "It prints a line of JSON for each image. `model.onnx` takes, for any number n of images, the inputs below"
        " as uint8 (n, size, size, 3), upright RGB, and gives `probabilities` float32 (n,"
        f" {len(facts.classes)}) and `members` float32 (n, {len(config['members'])},"
        f" {len(facts.classes)}), the same of each member. Normalisation, views, rule and temperature are in"
        " the graph.\n\n| input | made of an image by |\n|---|---|\n"
        + "\n".join(
            f"| `{square['name']}` | {', then '.join(square['steps'])} to {square['size']} pixels |"
            for square in config["inputs"]
        )
    )


def _members_table(facts: ModelFacts, config: Mapping[str, Any]) -> str:
    rule = f"Rule `{facts.rule}`" if facts.rule else "The plain mean of the networks"
    temperature = f", temperature {facts.temperature:.4f}" if facts.temperature else ""
    rows = [
        f"| {member['id']} | {member['arch']}"
        f" | {'' if member['weight'] is None else format(member['weight'], '.4f')}"
        f" | {', '.join(str(network['image_size']) for network in member['networks'])}"
        f" | {', '.join(network['tta'] for network in member['networks'])} |"
        for member in config["members"]
    ]
    header = "| member | architecture | weight | pixels | views |\n|---|---|---|---|---|\n"
    return f"{rule}{temperature}.\n\n{header}" + "\n".join(rows)


def _training_data(config: Mapping[str, Any]) -> str:
    sizes = config["sizes"]
    counts = " and ".join(f"{sizes[split]} images of {split}" for split in ("train", "valid") if split in sizes)
    return (
        f"{counts or 'Images'}, whose content, labels and division have the fingerprint `{config['fingerprint']}`."
        " Where they come from, and on what terms they may be used, is for whoever publishes this to add."
    )

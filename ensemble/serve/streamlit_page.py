"""The page of `ensemble.serve.streamlit_app`. It uses a service's endpoints only, not the package's models."""

from __future__ import annotations

import sys
from typing import Any


def request_json(address: str, path: str, file: tuple[str, bytes] | None = None) -> dict[str, Any]:
    """The JSON of a GET, or of a POST of one image. Raises RuntimeError with the service's error message."""
    import requests

    try:
        url = f"{address.rstrip('/')}/{path}"
        response = requests.post(url, files={"images": file}, timeout=90) if file else requests.get(url, timeout=10)
        content: dict[str, Any] = response.json()
    except (requests.RequestException, ValueError) as error:
        raise RuntimeError(f"no service answers at {address}; start one with `ens serve RUN`") from error
    if not response.ok:
        raise RuntimeError(content.get("error", f"the service answers {response.status_code}"))
    return content


def page(address: str) -> None:
    """The whole page."""
    import streamlit as st

    st.set_page_config(page_title="ens serve")
    try:
        model = request_json(address, "model")
    except RuntimeError as error:
        st.error(str(error))
        return
    st.title(model["run"])
    if model["notice"]:
        st.warning(model["notice"])
    upload = st.file_uploader("An image") or st.camera_input("or a photo", disabled=not st.toggle("Camera"))
    if upload is None:
        return
    file = (upload.name, upload.getvalue())
    try:
        (prediction,) = request_json(address, "predict", file)["predictions"]
    except RuntimeError as error:
        st.error(str(error))
        return
    _show_prediction(model, prediction)
    _show_maps(address, model, file)


def _show_prediction(model: dict[str, Any], prediction: dict[str, Any]) -> None:
    import streamlit as st

    st.metric("Most probable", prediction["label"], f"{prediction['probability']:.1%}", delta_color="off")
    columns = {"together": prediction} | {member["member"]: member for member in prediction["members"]}
    st.dataframe({name: record["probabilities"] for name, record in columns.items()})
    disagreement = prediction["disagreement"]
    st.text(f"Entropy: {prediction['entropy']:.3f} nats")
    st.text("Members' disagreement: " + ("-" if disagreement is None else f"{disagreement:.3f} nats"))
    if model["sets"]:
        st.text(f"Set for {model['sets']['coverage']:.0%}: " + (", ".join(prediction["set"]) or "empty"))
    else:
        st.text(f"No set: {model['why_no_sets']}")


def _show_maps(address: str, model: dict[str, Any], file: tuple[str, bytes]) -> None:
    import streamlit as st

    st.subheader("Where they look (Grad-CAM)")
    if not model["gradcam"]:
        st.text(f"Not drawn: {model['why_no_gradcam']}")
        return
    try:
        maps = request_json(address, "explain", file)["maps"]
    except RuntimeError as error:
        st.error(str(error))
        return
    for column, heat in zip(st.columns(len(maps)), maps, strict=True):
        if heat["picture"]:
            column.image(heat["picture"], caption=heat["member"])
        else:
            column.text(f"{heat['member']}: {heat['why']}")


if __name__ == "__main__":
    page(sys.argv[1])

"""What `ensemble.serve.streamlit_app` shows. It knows a service's addresses and nothing of models."""

from __future__ import annotations

import sys
from typing import Any


def ask(address: str, path: str, file: tuple[str, bytes] | None = None) -> dict[str, Any]:
    """The JSON of a GET, or of a POST of one image. Raises RuntimeError with the service's own words."""
    import requests

    try:
        where = f"{address.rstrip('/')}/{path}"
        answer = (
            requests.post(where, files={"images": file}, timeout=90) if file else requests.get(where, timeout=10)
        )
        said: dict[str, Any] = answer.json()
    except (requests.RequestException, ValueError) as error:
        raise RuntimeError(f"no service answers at {address}; start one with `ens serve RUN`") from error
    if not answer.ok:
        raise RuntimeError(said.get("error", f"the service answers {answer.status_code}"))
    return said


def page(address: str) -> None:
    """The whole page."""
    import streamlit as st

    st.set_page_config(page_title="ens serve")
    try:
        model = ask(address, "model")
    except RuntimeError as error:
        st.error(str(error))
        return
    st.title(model["run"])
    if model["notice"]:
        st.warning(model["notice"])
    given = st.file_uploader("An image") or st.camera_input("or a photo", disabled=not st.toggle("Camera"))
    if given is None:
        return
    file = (given.name, given.getvalue())
    try:
        (said,) = ask(address, "predict", file)["predictions"]
    except RuntimeError as error:
        st.error(str(error))
        return
    _answer(model, said)
    _maps(address, model, file)


def _answer(model: dict[str, Any], said: dict[str, Any]) -> None:
    import streamlit as st

    st.metric("Most probable", said["label"], f"{said['probability']:.1%}", delta_color="off")
    everybody = {"together": said} | {one["member"]: one for one in said["members"]}
    st.dataframe({name: one["probabilities"] for name, one in everybody.items()})
    unlike = said["disagreement"]
    st.text(f"Entropy: {said['entropy']:.3f} nats")
    st.text("Members' disagreement: " + ("-" if unlike is None else f"{unlike:.3f} nats"))
    if model["sets"]:
        st.text(f"Set for {model['sets']['coverage']:.0%}: " + (", ".join(said["set"]) or "empty"))
    else:
        st.text(f"No set: {model['why_no_sets']}")


def _maps(address: str, model: dict[str, Any], file: tuple[str, bytes]) -> None:
    import streamlit as st

    st.subheader("Where they look (Grad-CAM)")
    if not model["gradcam"]:
        st.text(f"Not drawn: {model['why_no_gradcam']}")
        return
    try:
        maps = ask(address, "explain", file)["maps"]
    except RuntimeError as error:
        st.error(str(error))
        return
    for column, one in zip(st.columns(len(maps)), maps, strict=True):
        if one["picture"]:
            column.image(one["picture"], caption=one["member"])
        else:
            column.text(f"{one['member']}: {one['why']}")


if __name__ == "__main__":
    page(sys.argv[1])

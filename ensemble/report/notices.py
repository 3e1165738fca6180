"""What must be said beside a model's answers, wherever they are shown."""

NOT_MEDICAL = (
    "This is not a medical device.",
    "It is for research and teaching. It must not be used to diagnose, treat or prevent a disease, or to decide"
    " about a person's care. Whoever is worried about their health sees a doctor, whatever this model says.",
)
"""Its first sentence, which is shown in bold, and the rest."""

LIMITS = (
    "The score is of images like the validation rows: from the same source, chosen in the same way. Images of"
    " anything else are given one of the classes all the same, perhaps with great confidence. How it does for"
    " groups of people or kinds of cameras that the rows do not name is not known."
)

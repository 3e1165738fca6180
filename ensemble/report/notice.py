"""What stands beside everything that is made of medical images."""

NOT_MEDICAL = "This is not a medical device."
NOT_MEDICAL_WHY = (
    "It is for research and teaching. It must not be used to diagnose, treat or prevent a disease, or to decide"
    " about a person's care. Whoever is worried about their health sees a doctor, whatever this model says."
)

"""What the players are worth: judges, ratings, rates, calibration and the frontier, all with intervals."""

"""Teachers: live, or read from the logit cache; checks that a network may teach."""

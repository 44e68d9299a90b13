"""Teachers: live, or read from the logit cache; and checks of a teacher."""

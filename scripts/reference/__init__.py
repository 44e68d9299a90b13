"""Write the Reference pages of the documentation from the configs and the code."""

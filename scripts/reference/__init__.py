"""The pages under Reference of the documentation, made from the configs and the code."""
